"""Hooks and helpers for the runner. Each name is imported on first use: options need no torch."""

from typing import TYPE_CHECKING

from ..lazy import lazy_names

if TYPE_CHECKING:
    from .checkpoints import settle_url_weights, trust_checkpoints
    from .class_check import ClassCheckHook
    from .distributed import PassThroughWrapper, prepare_distributed
    from .fit_loop import FitLoop
    from .generate_loop import GenerateLoop
    from .options import CfgOptions
    from .patch_grid import PatchGridHook
    from .tag_visualization import TagVisualizationHook
    from .tag_writer import TagWriterHook

__all__ = [
    'CfgOptions',
    'ClassCheckHook',
    'FitLoop',
    'GenerateLoop',
    'PassThroughWrapper',
    'PatchGridHook',
    'TagVisualizationHook',
    'TagWriterHook',
    'prepare_distributed',
    'settle_url_weights',
    'trust_checkpoints',
]
__getattr__, __dir__ = lazy_names(
    __name__,
    {
        '.checkpoints': ('settle_url_weights', 'trust_checkpoints'),
        '.class_check': ('ClassCheckHook',),
        '.distributed': (
            'PassThroughWrapper',
            'prepare_distributed',
        ),
        '.fit_loop': ('FitLoop',),
        '.generate_loop': ('GenerateLoop',),
        '.options': ('CfgOptions',),
        '.patch_grid': ('PatchGridHook',),
        '.tag_visualization': ('TagVisualizationHook',),
        '.tag_writer': ('TagWriterHook',),
    },
)
