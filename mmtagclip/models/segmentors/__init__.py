"""Training-free segmentors and their parts."""

# First: what is imported below imports MMSegmentation, too, and has said its lines then.
from ...frameworks import segmentation  # noqa: F401

# isort: split
from .affinity import AffinityRefinement
from .base import (
    CLSSegTTA,
    EncodedImage,
    LabelProcessor,
    Masks,
    SegNames,
    TrainingFreeSegmentor,
    TrainingFreeTTA,
)
from .cam import SoftmaxGradCAM
from .cls_seg import CLSSeg
from .direct import DirectSegmentor
from .label_processors import LabelClosing, MapCorrection
from .maskclip import MaskCLIPRefinement
from .post_processors import PAMR, DenseCRF
from .sam_gatherer import SAMGatherer
from .sam_refinement import SAMRefinement
from .text_head import SegTextHead
from .windows import ImageViews, SlidingWindows, WholeImage, Window

__all__ = [
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
]
