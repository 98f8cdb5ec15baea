"""Registered models and their parts."""
from .clip_encoder import CLIPEncoder
from .cwr import CWR
from .data_preprocessor import CLIPDataPreprocessor
from .dmar import DMAR
from .tagclip_head import ClassTokenHead, TagCLIPHead, coarse_scores, relative_threshold
from .tagger import TagCLIP

__all__ = [
    'CWR', 'DMAR', 'CLIPDataPreprocessor', 'CLIPEncoder', 'ClassTokenHead', 'TagCLIP',
    'TagCLIPHead', 'coarse_scores', 'relative_threshold',
]
