"""Policies of the last block of the image tower, in which dense encoders differ.

A policy turns the input of block L-1 into its output. It uses no classes and no
attention maps. The encoder records the block's ordinary attention separately.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from torch import Tensor, nn

from ..block import QKV, Block

Policy = TypeVar('Policy', bound='type[LastBlock]')
# All policies by class name, in the order of definition. There is no other list.
LAST_BLOCKS: dict[str, 'type[LastBlock]'] = {}


def last_block(policy: Policy) -> Policy:
    """Register a policy, so that a config can name it (``mmtagclip.<class name>``)."""
    LAST_BLOCKS[policy.__name__] = policy
    return policy


@dataclass(frozen=True)
class LastBlockContext:
    """The inputs of a policy.

    Attributes:
        blocks: All L blocks, bound to the grid.
        x: ``(B, P+N, width)`` input of block L-1; P tokens, of which the class token is the
            first, are in front of the patches.
        qkv: Queries, keys and values of block L-1 for ``x``,
            ``(B, heads, P+N, width/heads)`` each.
        grid: ``(h, w)`` in patches, ``N = h * w``.
        inputs: Inputs ``(B, P+N, width)`` of the blocks in the policy's
            ``block_inputs``. The input of block ``i`` is the output of block
            ``i - 1``.
        pixels: ``(B, 3, H, W)`` images, RGB in [0, 1], if the policy has
            ``needs_pixels``.
        lead: P, the number of tokens in front of the patches.
    """

    blocks: Sequence[Block]
    x: Tensor
    qkv: QKV
    grid: tuple[int, int]
    inputs: Mapping[int, Tensor] = field(default_factory=dict)
    pixels: Tensor | None = None
    lead: int = 1

    @property
    def block(self) -> Block:
        """Block L-1."""
        return self.blocks[-1]


class LastBlock(nn.Module):
    """Base class of the policies: the output of block L-1 with another attention.

    Args:
        residual: Whether the block's input is added to the output of the attention.
        mlp: Whether the MLP with its residual follows.

    Attributes:
        block_inputs: Blocks, from 0, whose inputs the policy needs.
        needs_pixels: Whether the policy reads the images themselves.
    """

    block_inputs: tuple[int, ...] = ()
    needs_pixels = False

    def __init__(self, residual: bool = True, mlp: bool = True) -> None:
        super().__init__()
        self.residual = residual
        self.mlp = mlp

    def extra_repr(self) -> str:
        """Return the options for printing."""
        return ', '.join(
            f'{key}={value}'
            for key, value in vars(self).items()
            if key != 'training' and not key.startswith('_')
        )

    def set_depth(self, num_blocks: int) -> None:
        """Choose the layers that were left open for a tower of this many blocks."""

    def attend(self, context: LastBlockContext) -> Tensor:
        """Compute the attention's output ``(B, heads, P+N, d)`` before its projection."""
        raise NotImplementedError

    def gather(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Change the tokens ``(B, P+N, width)`` behind the tower's norm; here: not at all."""
        return tokens

    def forward(self, context: LastBlockContext) -> tuple[Tensor, tuple[int, int]]:
        """Run the block.

        Returns:
            ``(B, P+N, width)``, and the grid of its patches. It is the context's
            grid, unless the policy changes it.
        """
        x = context.block.attention_output(self.attend(context))
        if self.residual:
            x = context.x + x
        if self.mlp:
            x = x + context.block.feed_forward(x)
        return x, context.grid


def at_depth(layers: Sequence[int], num_blocks: int) -> tuple[int, ...]:
    """Layers of 12 blocks at the same share of another depth, before the last block."""
    found = {min(round(layer * num_blocks / 12), num_blocks - 2) for layer in layers}
    return tuple(sorted(max(layer, 0) for layer in found))
