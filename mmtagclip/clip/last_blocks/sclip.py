"""SCLIP: correlative self-attention."""

import torch.nn.functional as F
from torch import Tensor

from .base import LastBlock, LastBlockContext, last_block


@last_block
class SCLIPLastBlock(LastBlock):
    """Correlative self-attention (SCLIP, ECCV 2024): queries to queries plus keys to keys.

    Each row of the attention sums to 2, as published.
    """

    def attend(self, context: LastBlockContext) -> Tensor:
        """Compute correlative self-attention."""
        return correlative_attention(*context.qkv)


def correlative_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Compute SCLIP's correlative self-attention; all ``(B, heads, 1+N, d)``."""
    return F.scaled_dot_product_attention(q, q, v) + F.scaled_dot_product_attention(k, k, v)
