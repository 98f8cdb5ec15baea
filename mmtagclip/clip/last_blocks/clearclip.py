"""ClearCLIP: queries to queries."""

import torch.nn.functional as F
from torch import Tensor

from .base import LastBlock, LastBlockContext, last_block


@last_block
class ClearCLIPLastBlock(LastBlock):
    """Queries to queries, without residual and MLP (ClearCLIP, ECCV 2024)."""

    def __init__(self, residual: bool = False, mlp: bool = False) -> None:
        super().__init__(residual, mlp)

    def attend(self, context: LastBlockContext) -> Tensor:
        """Attend from queries to queries."""
        q, _, v = context.qkv
        return F.scaled_dot_product_attention(q, q, v)
