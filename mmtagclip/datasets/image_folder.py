"""Folders of images without labels."""

from ..frameworks import pretrain  # noqa: F401

# isort: split
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.logging import MMLogger
from mmpretrain.datasets.base_dataset import BaseDataset

from ..images import images_below, unread_sentence
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
        images, others = images_below(self.img_prefix)
        log_unread(self.img_prefix, others)
        return [{'img_path': str(path)} for path in images]


def log_unread(folder: str | Path, others: Sequence[Path]) -> None:
    """Say in the log which files of a folder are not read, if there are any."""
    if others:
        MMLogger.get_current_instance().warning(f'{folder}: {unread_sentence(others)}')
