"""Training-free segmentors and their parts."""

# First: what is imported below imports MMSegmentation, too, and has said its lines then.
from ...frameworks import segmentation  # noqa: F401

# isort: split
from .affinity import AffinityRefinement
from .bank import BankProcessor, RegionEncoder
from .base import (
    CLSSegTTA,
    EncodedImage,
    LabelProcessor,
    Masks,
    SegNames,
    TrainingFreeSegmentor,
    TrainingFreeTTA,
)
from .cam import SoftmaxGradCAM, SurgeryCAM
from .cls_seg import CLSSeg
from .concept_scores import BackgroundRule, MarginBackground, MaximumBackground
from .concept_words import ContextTokens, HypernymContext, NeighbourContext, Preview
from .concepts import ConceptSegmentor
from .direct import DirectSegmentor
from .label_processors import LabelClosing, MapCorrection
from .maskclip import MaskCLIPRefinement
from .post_processors import PAMR, PAR, DenseCRF
from .references import ReferenceEncoder, ReferenceProcessor
from .sam3 import Sam3
from .sam_gatherer import SAMGatherer
from .sam_refinement import SAMRefinement
from .text_head import SegTextHead
from .windows import ImageViews, SlidingWindows, WholeImage, Window

__all__ = [
    'PAMR',
    'PAR',
    'AffinityRefinement',
    'BackgroundRule',
    'BankProcessor',
    'CLSSeg',
    'CLSSegTTA',
    'ConceptSegmentor',
    'ContextTokens',
    'DenseCRF',
    'DirectSegmentor',
    'EncodedImage',
    'HypernymContext',
    'ImageViews',
    'LabelClosing',
    'LabelProcessor',
    'MapCorrection',
    'MarginBackground',
    'MaskCLIPRefinement',
    'Masks',
    'MaximumBackground',
    'NeighbourContext',
    'Preview',
    'ReferenceEncoder',
    'ReferenceProcessor',
    'RegionEncoder',
    'SAMGatherer',
    'SAMRefinement',
    'Sam3',
    'SegNames',
    'SegTextHead',
    'SlidingWindows',
    'SoftmaxGradCAM',
    'SurgeryCAM',
    'TrainingFreeSegmentor',
    'TrainingFreeTTA',
    'WholeImage',
    'Window',
]
