"""Checkpoints that MMEngine is given, read without running what is in them."""

import pickle
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.runner.checkpoint import CheckpointLoader, load_from_local
from torch import Tensor

from ..clip.torch_file import plain, read_torch_zip
from ..files import user_path


def trust_checkpoints(trust: bool) -> None:
    """Say how MMEngine reads local checkpoint files from now on.

    Args:
        trust: Whether it unpickles them, which runs whatever code they bring;
            else they are read by :func:`read_checkpoint`.
    """
    loader = load_from_local if trust else read_checkpoint
    CheckpointLoader.register_scheme('', loader, force=True)


def read_checkpoint(filename: str | Path, map_location: Any = None) -> dict[str, Any]:
    """Read a file that MMEngine saved: weights, numbers, strings and containers.

    Objects of classes are left out, such as the windows over which MMEngine
    averages what it logs.

    Args:
        filename: Path of the file.
        map_location: Ignored: tensors are on the CPU. MMEngine passes it.

    Returns:
        What it holds, the weights under ``'state_dict'`` or bare.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, or holds other objects among its weights.
    """
    path = user_path(filename)
    if not path.is_file():
        raise FileNotFoundError(f'no checkpoint at {path}')
    try:
        if zipfile.is_zipfile(path):
            content = plain(read_torch_zip(path, strict=False))
        elif tarfile.is_tarfile(path):
            raise ValueError('it is a tar archive, as PyTorch wrote before 2018')
        else:
            content = torch.load(path, map_location='cpu', weights_only=True)
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        ValueError,
        zipfile.BadZipFile,
    ) as error:
        raise ValueError(
            f'{path} is damaged or can not be read as data alone: {error}; if you know that it '
            'may run code, pass --trust-checkpoint'
        ) from None
    weights = content.get('state_dict', content) if isinstance(content, Mapping) else None
    if not isinstance(weights, Mapping) or not any(
        isinstance(value, Tensor) for value in weights.values()
    ):
        raise ValueError(
            f'{path} holds no weights that can be read as data alone; if you know that it may '
            'run code, pass --trust-checkpoint'
        )
    return dict(content)
