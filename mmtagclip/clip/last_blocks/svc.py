"""ExCEL's static visual calibration: a second path over the last blocks, without their MLPs."""

import torch
from torch import Tensor

from ..block import QKV
from .base import LastBlock, LastBlockContext, last_block

# Published number of blocks.
DEPTH = 5


@last_block
class SVCLastBlock(LastBlock):
    """Static visual calibration (ExCEL, CVPR 2025): attention of alike tokens over several blocks.

    A second path starts as the input of block L-5. Each block adds its values, gathered by
    q to q, k to k and v to v of the ordinary path, a third of each, **summed** over the heads: one
    map for all heads. There is no MLP. The class token is that of the ordinary path.

    Args:
        depth: Number of blocks, from the last; published: 5 of 12.

    Raises:
        ValueError: ``depth`` is not positive.
    """

    def __init__(self, depth: int = DEPTH) -> None:
        super().__init__(mlp=False)
        if depth < 1:
            raise ValueError(f'SVCLastBlock needs depth >= 1, not {depth}')
        self.depth = depth

    def set_depth(self, num_blocks: int) -> None:
        """See :class:`LastBlock`.

        Raises:
            ValueError: The tower has fewer blocks than the path.
        """
        if num_blocks < self.depth:
            raise ValueError(
                f'SVCLastBlock takes the last {self.depth} blocks, but the model has only '
                f'{num_blocks}: set a smaller depth'
            )
        self.block_inputs = tuple(range(num_blocks - self.depth, num_blocks))

    def forward(self, context: LastBlockContext) -> tuple[Tensor, tuple[int, int]]:
        """See :class:`LastBlock`."""
        y = context.inputs[self.block_inputs[0]]
        for layer in self.block_inputs:
            block = context.blocks[layer]
            qkv = (
                context.qkv
                if block is context.block
                else block.query_key_value(context.inputs[layer])
            )
            attention = alike_tokens(qkv)
            values = qkv[2]
            y = y + block.attention_output(attention.to(values.dtype)[:, None] @ values)
        if context.lead:
            y = torch.cat([context.block.first_token(context.x), y[:, 1:]], dim=1)
        return y, context.grid


def alike_tokens(qkv: QKV) -> Tensor:
    """Mean of the three maps of tokens that attend to alike tokens, summed over the heads.

    Args:
        qkv: ``(B, heads, P+N, d)`` each.

    Returns:
        ``(B, P+N, P+N)`` float32; rows sum to the number of heads.
    """
    scale = qkv[0].shape[-1] ** -0.5
    maps = (
        ((scale * tokens) @ tokens.transpose(1, 2)).softmax(dim=-1, dtype=torch.float32)
        for one in qkv
        for tokens in one.unbind(1)
    )
    total = next(maps)
    for one in maps:  # one by one: no more than three at a time are in memory
        total = total + one
    return total / 3
