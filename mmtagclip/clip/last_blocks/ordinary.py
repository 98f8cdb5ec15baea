"""The last block as CLIP trained it."""

from torch import Tensor

from ..block import attend
from .base import LastBlock, LastBlockContext, last_block


@last_block
class OrdinaryLastBlock(LastBlock):
    """The block as CLIP trained it. Its class token is that of plain CLIP."""

    def attend(self, context: LastBlockContext) -> Tensor:
        """Compute ordinary attention."""
        return attend(*context.qkv)
