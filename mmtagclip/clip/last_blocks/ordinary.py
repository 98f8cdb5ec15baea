"""The last block as CLIP trained it."""

from torch import Tensor

from ..block import attend
from .base import LastBlock, LastBlockContext, last_block


@last_block
class OrdinaryLastBlock(LastBlock):
    """The block as CLIP trained it; gives CLIP's own class token."""

    def attend(self, context: LastBlockContext) -> Tensor:
        """Ordinary attention."""
        return attend(*context.qkv)
