"""Figures of results. The visualizers are imported on first use: figures need no framework."""

from typing import TYPE_CHECKING

from ..lazy import lazy_names
from .contact_sheet import contact_sheet
from .mask_figure import LegendEntry, draw_instances, draw_masks, mask_legend
from .overview import draw_overview
from .results import draw_result
from .tag_figure import draw_tags, overlay

if TYPE_CHECKING:
    from .mask_visualizer import MaskVisualizer
    from .visualizer import TagVisualizer

__all__ = [
    'LegendEntry',
    'MaskVisualizer',
    'TagVisualizer',
    'contact_sheet',
    'draw_instances',
    'draw_masks',
    'draw_overview',
    'draw_result',
    'draw_tags',
    'mask_legend',
    'overlay',
]
__getattr__, __dir__ = lazy_names(
    __name__, {'.mask_visualizer': ('MaskVisualizer',), '.visualizer': ('TagVisualizer',)}
)
