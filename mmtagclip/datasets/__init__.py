"""Data sets and transforms. Each name is imported on first use, MMSegmentation only for masks."""

from typing import TYPE_CHECKING

from ..lazy import lazy_names

if TYPE_CHECKING:
    from ..images import image_size, read_image, read_index_mask
    from .loading import KeepImage, LoadImage, ResizeToPatchGrid
    from .multi_label import CocoMultiLabel, VOCMultiLabel
    from .pseudo_label import PseudoLabelDataset
    from .samplers import SameGridBatchSampler, same_grid_batches
    from .segmentation import VocabularySegDataset
    from .tag_file import LoadTags, TagRecord, read_tag_file, write_tag_file

__all__ = [
    'CocoMultiLabel',
    'KeepImage',
    'LoadImage',
    'LoadTags',
    'PseudoLabelDataset',
    'ResizeToPatchGrid',
    'SameGridBatchSampler',
    'TagRecord',
    'VOCMultiLabel',
    'VocabularySegDataset',
    'image_size',
    'read_image',
    'read_index_mask',
    'read_tag_file',
    'same_grid_batches',
    'write_tag_file',
]
__getattr__, __dir__ = lazy_names(
    __name__,
    {
        '..images': (
            'image_size',
            'read_image',
            'read_index_mask',
        ),
        '.loading': (
            'KeepImage',
            'LoadImage',
            'ResizeToPatchGrid',
        ),
        '.multi_label': (
            'CocoMultiLabel',
            'VOCMultiLabel',
        ),
        '.pseudo_label': ('PseudoLabelDataset',),
        '.samplers': (
            'SameGridBatchSampler',
            'same_grid_batches',
        ),
        '.segmentation': ('VocabularySegDataset',),
        '.tag_file': (
            'LoadTags',
            'TagRecord',
            'read_tag_file',
            'write_tag_file',
        ),
    },
)
