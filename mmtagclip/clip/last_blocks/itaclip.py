"""ITACLIP: correlative self-attention, half of it from earlier blocks."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..block import query_key_value
from .base import LastBlock, LastBlockContext, last_block
from .sclip import correlative_attention


@last_block
class ITACLIPLastBlock(LastBlock):
    """Correlative self-attention, half of it from earlier blocks (ITACLIP, CVPRW 2025); no MLP.

    Args:
        layers: Blocks, from 0, whose queries and keys make the other half.
            Default: 6, 7 and 9, as published for 12 blocks; an encoder of another
            depth must set them.
        residual: See :class:`LastBlock`.
        mlp: See :class:`LastBlock`.

    Raises:
        ValueError: ``layers`` is empty.
    """

    def __init__(
        self, layers: Sequence[int] | None = None, residual: bool = True, mlp: bool = False
    ) -> None:
        super().__init__(residual, mlp)
        if layers is None:
            layers, self.depth_options = (6, 7, 9), ('layers',)
        if not layers:
            raise ValueError('ITACLIPLastBlock needs at least one layer')
        self.block_inputs = tuple(layers)

    def attend(self, context: LastBlockContext) -> Tensor:
        """Average the correlative self-attention of the last block and of the earlier blocks."""
        v = context.qkv[2]
        others = torch.zeros_like(v)
        for layer in self.block_inputs:
            q, k, _ = query_key_value(context.blocks[layer], context.inputs[layer])
            others += correlative_attention(q, k, v)
        own = correlative_attention(*context.qkv)
        return own / 2 + others / (2 * len(self.block_inputs))
