"""Registered models and their parts.

Each name is imported on first use: a tagger does not wait for MMSegmentation.
"""

from typing import TYPE_CHECKING

from ..lazy import lazy_names

if TYPE_CHECKING:
    from ..clip import Encoded, Names
    from ..regions import (
        Affinity,
        AffinitySource,
        CorrCLIPLastBlock,
        ProxyLastBlock,
        TimmFeatures,
    )
    from .clip_encoder import CLIPEncoder
    from .data_preprocessor import CLIPDataPreprocessor
    from .segmentors import (
        PAMR,
        AffinityRefinement,
        CLSSeg,
        CLSSegTTA,
        DenseCRF,
        DirectSegmentor,
        EncodedImage,
        ImageViews,
        LabelClosing,
        LabelProcessor,
        MapCorrection,
        MaskCLIPRefinement,
        Masks,
        SegNames,
        SegTextHead,
        SlidingWindows,
        SoftmaxGradCAM,
        TrainingFreeSegmentor,
        TrainingFreeTTA,
        WholeImage,
        Window,
    )
    from .taggers.cwr import CWR
    from .taggers.dmar import DMAR
    from .taggers.heads import ClassTokenHead, TagCLIPHead, TagHead, TagScores, coarse_scores
    from .taggers.piaa import GaussianClassifier, PIAAHead
    from .taggers.selection import Tag, TagRule, relative_threshold
    from .taggers.tagger import TagCLIP

__all__ = [
    'CWR',
    'DMAR',
    'PAMR',
    'SAM',
    'Affinity',
    'AffinityRefinement',
    'AffinitySource',
    'CLIPDataPreprocessor',
    'CLIPEncoder',
    'CLSSeg',
    'CLSSegTTA',
    'ClassTokenHead',
    'CorrCLIPLastBlock',
    'DenseCRF',
    'DirectSegmentor',
    'Encoded',
    'EncodedImage',
    'GaussianClassifier',
    'ImageViews',
    'LabelClosing',
    'LabelProcessor',
    'MapCorrection',
    'MaskCLIPRefinement',
    'Masks',
    'Names',
    'PIAAHead',
    'ProxyLastBlock',
    'SAMGatherer',
    'SAMRefinement',
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
    'Window',
    'coarse_scores',
    'relative_threshold',
]
__getattr__, __dir__ = lazy_names(
    __name__,
    {
        '..clip': ('Encoded', 'Names'),
        '..regions': (
            'SAM',
            'Affinity',
            'AffinitySource',
            'CorrCLIPLastBlock',
            'ProxyLastBlock',
            'TimmFeatures',
        ),
        '.clip_encoder': ('CLIPEncoder',),
        '.data_preprocessor': ('CLIPDataPreprocessor',),
        '.segmentors': (
            'PAMR',
            'AffinityRefinement',
            'CLSSeg',
            'CLSSegTTA',
            'DenseCRF',
            'DirectSegmentor',
            'EncodedImage',
            'ImageViews',
            'LabelClosing',
            'LabelProcessor',
            'MapCorrection',
            'MaskCLIPRefinement',
            'Masks',
            'SAMGatherer',
            'SAMRefinement',
            'SegNames',
            'SegTextHead',
            'SlidingWindows',
            'SoftmaxGradCAM',
            'TrainingFreeSegmentor',
            'TrainingFreeTTA',
            'WholeImage',
            'Window',
        ),
        '.taggers.cwr': ('CWR',),
        '.taggers.dmar': ('DMAR',),
        '.taggers.heads': (
            'ClassTokenHead',
            'TagCLIPHead',
            'TagHead',
            'TagScores',
            'coarse_scores',
        ),
        '.taggers.piaa': ('GaussianClassifier', 'PIAAHead'),
        '.taggers.selection': ('Tag', 'TagRule', 'relative_threshold'),
        '.taggers.tagger': ('TagCLIP',),
    },
)
