"""Folders of images without labels."""

from pathlib import Path
from typing import Any

from mmengine.logging import MMLogger
from mmpretrain.datasets.base_dataset import BaseDataset

from ..images import SUFFIXES, split_files, unread_sentence
from ..registry import DATASETS


@DATASETS.register_module()
class ImageFolder(BaseDataset):
    """Every image below a folder, in the order of their paths, without labels.

    Files that are not images, or of a format that is not read here, are left out; the log counts
    them by their endings and says what to install.

    Args:
        data_prefix: The folder.
        **kwargs: See :class:`mmpretrain.datasets.BaseDataset`.

    Raises:
        FileNotFoundError: There is no folder, or no image in it.
    """

    def __init__(self, data_prefix: str = '', **kwargs: Any) -> None:
        super().__init__(ann_file='', data_prefix=data_prefix, **kwargs)

    def load_data_list(self) -> list[dict]:
        """List the images."""
        return [{'img_path': str(path)} for path in images_below(self.img_prefix, log=True)]


def images_below(folder: str | Path, log: bool = False) -> list[Path]:
    """List every image below a folder.

    Args:
        folder: The folder.
        log: Whether the log says which files are left out.

    Raises:
        FileNotFoundError: There is no folder, or no image in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f'there is no folder {folder}')
    images, others = split_files(folder.rglob('*'))
    if not images:
        why = unread_sentence(others) if others else f'endings: {", ".join(SUFFIXES)}'
        raise FileNotFoundError(f'no image in {folder} ({why})')
    if others and log:
        MMLogger.get_current_instance().warning(f'{folder}: {unread_sentence(others)}')
    return images
