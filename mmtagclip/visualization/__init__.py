"""Figures of results."""

from .contact_sheet import contact_sheet
from .mask_figure import LegendEntry, draw_masks, mask_legend
from .results import draw_result
from .tag_figure import draw_tags, overlay
from .visualizer import MaskVisualizer, TagVisualizer

__all__ = [
    'LegendEntry',
    'MaskVisualizer',
    'TagVisualizer',
    'contact_sheet',
    'draw_masks',
    'draw_result',
    'draw_tags',
    'mask_legend',
    'overlay',
]
