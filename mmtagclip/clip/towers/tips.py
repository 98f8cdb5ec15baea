"""The image tower of TIPS: timm's ViT with a class token and a register."""

from typing import Any

from .base import tower
from .timm_vit import TimmViT, Unprojected


class TIPSVisual(Unprojected):
    """A tower of timm with the weights of TIPS."""


@tower
class TIPS(TimmViT):
    """Reads TIPS and TIPSv2, whose program resizes positions bilinearly, with antialias."""

    kind = 'TIPS'
    default_positions = 'bilinear_antialias'

    @staticmethod
    def accepts(visual: Any) -> bool:
        """See :class:`Tower`."""
        return isinstance(visual, TIPSVisual)
