"""Text features on disk: one file each, whole and of the expected shape, or none."""

import hashlib
import warnings
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor

from ..files import default_cache_dir, place_whole, user_path


class FeatureCache:
    """A folder of features by their keys.

    Args:
        folder: The folder; the user's cache directory if None or True, no cache if False.

    Attributes:
        folder: The folder; None if nothing is read or written.
    """

    def __init__(self, folder: str | Path | bool | None = None) -> None:
        self.folder: Path | None = None
        if folder is None or folder is True:
            self.folder = default_cache_dir()
        elif folder is not False:
            self.folder = user_path(folder)

    def read(self, key: str, shape: tuple[int, ...]) -> Tensor | None:
        """Read a feature.

        Args:
            key: A hexadecimal digest of everything that the feature depends on.
            shape: That it must have.

        Returns:
            The feature, float32; None if there is none or the file holds anything else.
        """
        if self.folder is None:
            return None
        try:
            with safe_open(self._path(self.folder, key), framework='numpy') as file:
                feature = file.get_tensor('feature')
                facts = file.metadata() or {}
        except (OSError, SafetensorError):
            return None
        if facts.get('key') != key or facts.get('sha256') != _digest(feature):
            return None
        if feature.dtype != np.float32 or feature.shape != shape:
            return None
        return torch.from_numpy(feature)

    def write(self, key: str, name: str, feature: Tensor) -> None:
        """Store a feature: a whole file under its final name, or none and a warning.

        After a failure nothing more is read or written.

        Args:
            key: See :meth:`read`.
            name: What the feature is of, for those who look into the file.
            feature: Float32, on the CPU.
        """
        if self.folder is None:
            return
        values = feature.numpy()
        facts = {'key': key, 'sha256': _digest(values), 'name': name}
        try:
            # A file that a power failure tears is made again: its digest is wrong.
            content = save({'feature': values}, facts)
            place_whole(self._path(self.folder, key), content, durable=False)
        except (OSError, SafetensorError) as error:
            warnings.warn(f'text features are not cached in {self.folder}: {error}', stacklevel=2)
            self.folder = None

    @staticmethod
    def _path(folder: Path, key: str) -> Path:
        return folder / key[:2] / f'{key}.safetensors'


def _digest(values: np.ndarray) -> str:
    return hashlib.sha256(values.tobytes()).hexdigest()
