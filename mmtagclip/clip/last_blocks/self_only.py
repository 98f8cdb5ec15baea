"""Every token attends only to itself: TagCLIP and MaskCLIP."""

from torch import Tensor

from .base import LastBlock, LastBlockContext, last_block


@last_block
class SelfOnlyLastBlock(LastBlock):
    """Every token attends only to itself: TagCLIP, sec. 3.2, and MaskCLIP.

    The attention output is the projected value; residual and MLP stay.
    """

    def attend(self, context: LastBlockContext) -> Tensor:
        """Return the values."""
        return context.qkv[2]
