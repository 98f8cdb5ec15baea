"""Data sets and transforms."""
from .loading import KeepImage, LoadImage, ResizeToPatchGrid, read_image, read_index_mask
from .multi_label import CocoMultiLabel, VOCMultiLabel
from .pseudo_label import PseudoLabelDataset
from .segmentation import VocabularySegDataset
from .tag_file import LoadTags, TagRecord, read_tag_file, write_tag_file

__all__ = [
    'CocoMultiLabel', 'KeepImage', 'LoadImage', 'LoadTags', 'PseudoLabelDataset',
    'ResizeToPatchGrid', 'TagRecord', 'VOCMultiLabel', 'VocabularySegDataset', 'read_image',
    'read_index_mask', 'read_tag_file', 'write_tag_file',
]
