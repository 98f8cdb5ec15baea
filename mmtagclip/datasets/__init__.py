"""Data sets and transforms."""

from ..images import image_size, read_image, read_index_mask
from .image_folder import ImageFolder
from .loading import KeepImage, LoadImage, ResizeToPatchGrid
from .multi_label import CocoMultiLabel, VOCMultiLabel
from .own_labels import OwnMultiLabel, read_tags
from .pseudo_label import PseudoLabelDataset
from .samplers import SameGridBatchSampler, same_grid_batches
from .segmentation import VocabularySegDataset
from .tag_file import LoadTags, TagRecord, read_tag_file, write_tag_file

__all__ = [
    'CocoMultiLabel',
    'ImageFolder',
    'KeepImage',
    'LoadImage',
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
