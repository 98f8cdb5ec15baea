"""Segmentation data sets whose classes come from a vocabulary."""
from collections.abc import Sequence
from typing import Any

from mmseg.datasets import BaseSegDataset

from ..clip import Vocabulary
from ..registry import DATASETS


@DATASETS.register_module()
class VocabularySegDataset(BaseSegDataset):
    """Images with index masks, whose classes are a vocabulary.

    Args:
        classes: A built-in list, a file or a list of names.
        with_background: Whether label 0 is the background and the classes
            follow from 1.
        img_suffix: Ending of the images.
        seg_map_suffix: Ending of the masks.
        **kwargs: See :class:`mmseg.datasets.BaseSegDataset`.
    """

    def __init__(self, classes: str | Sequence, with_background: bool = True,
                 img_suffix: str = '.jpg', seg_map_suffix: str = '.png', **kwargs: Any) -> None:
        names = Vocabulary.load(classes).names
        metainfo = {'classes': (*(('background',) if with_background else ()), *names)}
        super().__init__(img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, metainfo=metainfo,
                         **kwargs)
