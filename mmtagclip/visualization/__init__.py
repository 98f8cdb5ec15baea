"""Pictures of results."""
from .tag_figure import draw_tags, overlay

__all__ = ['draw_tags', 'overlay']
