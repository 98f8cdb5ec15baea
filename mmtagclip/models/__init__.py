"""Registered models and their parts."""

from .affinity import AffinityRefinement
from .cam import SoftmaxGradCAM
from .clip_encoder import CLIPEncoder
from .cls_seg import CLSSeg, CLSSegTTA
from .cwr import CWR
from .data_preprocessor import CLIPDataPreprocessor
from .direct_seg import DirectSegmentor
from .dmar import DMAR
from .maskclip import MaskCLIPRefinement
from .piaa import GaussianClassifier, PIAAHead
from .post_processors import PAMR, DenseCRF, LabelClosing
from .proxy import Affinity, AffinitySource, ProxyLastBlock, TimmFeatures
from .seg_text_head import SegTextHead
from .tagclip_head import ClassTokenHead, TagCLIPHead, coarse_scores, relative_threshold
from .tagger import TagCLIP
from .windows import ImageViews, SlidingWindows, WholeImage

__all__ = [
    'CWR',
    'DMAR',
    'PAMR',
    'Affinity',
    'AffinityRefinement',
    'AffinitySource',
    'CLIPDataPreprocessor',
    'CLIPEncoder',
    'CLSSeg',
    'CLSSegTTA',
    'ClassTokenHead',
    'DenseCRF',
    'DirectSegmentor',
    'GaussianClassifier',
    'ImageViews',
    'LabelClosing',
    'MaskCLIPRefinement',
    'PIAAHead',
    'ProxyLastBlock',
    'SegTextHead',
    'SlidingWindows',
    'SoftmaxGradCAM',
    'TagCLIP',
    'TagCLIPHead',
    'TimmFeatures',
    'WholeImage',
    'coarse_scores',
    'relative_threshold',
]
