"""Hooks and helpers for the runner."""

from .checkpoints import settle_url_weights, trust_checkpoints
from .class_check import ClassCheckHook
from .distributed import PassThroughWrapper, prepare_distributed
from .fit_loop import FitLoop
from .generate_loop import GenerateLoop
from .options import CfgOptions
from .tag_visualization import TagVisualizationHook
from .tag_writer import TagWriterHook

__all__ = [
    'CfgOptions',
    'ClassCheckHook',
    'FitLoop',
    'GenerateLoop',
    'PassThroughWrapper',
    'TagVisualizationHook',
    'TagWriterHook',
    'prepare_distributed',
    'settle_url_weights',
    'trust_checkpoints',
]
