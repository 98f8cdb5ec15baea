"""ITACLIP: correlative self-attention, half of it from earlier blocks."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import LastBlock, LastBlockContext, at_depth, last_block
from .sclip import correlative_attention


@last_block
class ITACLIPLastBlock(LastBlock):
    """Correlative self-attention, half of it from earlier blocks (ITACLIP, CVPRW 2025); no MLP.

    Args:
        layers: Blocks, from 0, whose queries and keys make the other half.
            Default: 6, 7 and 9 of 12, as published; the same shares of another depth, which
            are ours.
        residual: See :class:`LastBlock`.
        mlp: See :class:`LastBlock`.

    Raises:
        ValueError: ``layers`` is empty.
    """

    def __init__(
        self, layers: Sequence[int] | None = None, residual: bool = True, mlp: bool = False
    ) -> None:
        super().__init__(residual, mlp)
        if layers is not None and not layers:
            raise ValueError('ITACLIPLastBlock needs at least one layer')
        self._by_depth = layers is None
        self.block_inputs = (6, 7, 9) if layers is None else tuple(layers)

    def set_depth(self, num_blocks: int) -> None:
        """See :class:`LastBlock`."""
        if self._by_depth:
            self.block_inputs = at_depth((6, 7, 9), num_blocks)

    def attend(self, context: LastBlockContext) -> Tensor:
        """Average the correlative self-attention of the last block and of the earlier blocks."""
        v = context.qkv[2]
        others = torch.zeros_like(v)
        for layer in self.block_inputs:
            q, k, _ = context.blocks[layer].query_key_value(context.inputs[layer])
            others += correlative_attention(q, k, v)
        own = correlative_attention(*context.qkv)
        return own / 2 + others / (2 * len(self.block_inputs))
