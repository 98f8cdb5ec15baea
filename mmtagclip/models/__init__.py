"""Registered models and their parts."""

# First: what is imported below imports MMPretrain's models, which have to be told something before.
from .. import frameworks  # noqa: F401
from ..clip import Encoded, Names
from ..regions import Affinity, AffinitySource, ProxyLastBlock, TimmFeatures
from .clip_encoder import CLIPEncoder
from .data_preprocessor import CLIPDataPreprocessor
from .segmentors.affinity import AffinityRefinement
from .segmentors.base import (
    CLSSegTTA,
    EncodedImage,
    SegNames,
    TrainingFreeSegmentor,
    TrainingFreeTTA,
)
from .segmentors.cam import SoftmaxGradCAM
from .segmentors.cls_seg import CLSSeg
from .segmentors.direct import DirectSegmentor
from .segmentors.maskclip import MaskCLIPRefinement
from .segmentors.post_processors import PAMR, DenseCRF, LabelClosing
from .segmentors.text_head import SegTextHead
from .segmentors.windows import ImageViews, SlidingWindows, WholeImage
from .taggers.cwr import CWR
from .taggers.dmar import DMAR
from .taggers.heads import (
    ClassTokenHead,
    TagCLIPHead,
    TagHead,
    TagScores,
    coarse_scores,
)
from .taggers.piaa import GaussianClassifier, PIAAHead
from .taggers.selection import Tag, TagRule, relative_threshold
from .taggers.tagger import TagCLIP

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
    'Encoded',
    'EncodedImage',
    'GaussianClassifier',
    'ImageViews',
    'LabelClosing',
    'MaskCLIPRefinement',
    'Names',
    'PIAAHead',
    'ProxyLastBlock',
    'SegNames',
    'SegTextHead',
    'SlidingWindows',
    'SoftmaxGradCAM',
    'Tag',
    'TagCLIP',
    'TagCLIPHead',
    'TagHead',
    'TagRule',
    'TagScores',
    'TimmFeatures',
    'TrainingFreeSegmentor',
    'TrainingFreeTTA',
    'WholeImage',
    'coarse_scores',
    'relative_threshold',
]
