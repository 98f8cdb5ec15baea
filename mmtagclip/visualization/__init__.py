"""Pictures of results."""
from .contact_sheet import contact_sheet
from .mask_figure import draw_masks
from .tag_figure import draw_tags, overlay
from .visualizer import MaskVisualizer, TagVisualizer

__all__ = [
    'MaskVisualizer', 'TagVisualizer', 'contact_sheet', 'draw_masks', 'draw_tags', 'overlay',
]
