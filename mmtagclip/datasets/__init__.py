"""Data sets and transforms. Each name is imported on first use, MMSegmentation only for masks."""

from typing import TYPE_CHECKING

from ..lazy import lazy_names

if TYPE_CHECKING:
    from ..images import image_size, read_image, read_index_mask
    from .image_folder import ImageFolder
    from .loading import KeepImage, LoadImage, ResizeToPatchGrid
    from .multi_label import CocoMultiLabel, OwnMultiLabel, VOCMultiLabel
    from .own_labels import read_tags
    from .pseudo_label import PseudoLabelDataset
    from .regions import LoadRegions
    from .samplers import SameGridBatchSampler, same_grid_batches
    from .segmentation import VocabularySegDataset
    from .tag_file import LoadTags, TagRecord, read_tag_file, write_tag_file

__all__ = [
    'CocoMultiLabel',
    'ImageFolder',
    'KeepImage',
    'LoadImage',
    'LoadRegions',
    'LoadTags',
    'OwnMultiLabel',
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
    'read_tags',
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
        '.image_folder': ('ImageFolder',),
        '.loading': (
            'KeepImage',
            'LoadImage',
            'ResizeToPatchGrid',
        ),
        '.multi_label': (
            'CocoMultiLabel',
            'OwnMultiLabel',
            'VOCMultiLabel',
        ),
        '.own_labels': ('read_tags',),
        '.pseudo_label': ('PseudoLabelDataset',),
        '.regions': ('LoadRegions',),
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
