"""Data sets and transforms."""
from .loading import LoadImage, ResizeToPatchGrid, read_image
from .multi_label import CocoMultiLabel, VOCMultiLabel

__all__ = ['CocoMultiLabel', 'LoadImage', 'ResizeToPatchGrid', 'VOCMultiLabel', 'read_image']
