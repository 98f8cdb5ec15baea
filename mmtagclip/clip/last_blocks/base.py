"""Policies of the last block of the image tower, in which dense encoders differ.

A policy turns the input of block L-1 into its output. It uses no classes and no
attention maps. The encoder records the block's ordinary attention separately.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import Tensor, nn

from ..block import attention_output, feed_forward

QKV = tuple[Tensor, Tensor, Tensor]
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
        blocks: All L blocks.
        x: ``(B, 1+N, width)`` input of block L-1.
        qkv: Queries, keys and values of block L-1 for ``x``,
            ``(B, heads, 1+N, width/heads)`` each.
        grid: ``(h, w)`` in patches, ``N = h * w``.
        inputs: Inputs ``(B, 1+N, width)`` of the blocks in the policy's
            ``block_inputs``. The input of block ``i`` is the output of block
            ``i - 1``.
        pixels: ``(B, 3, H, W)`` images, RGB in [0, 1], if the policy has
            ``needs_pixels``.
    """

    blocks: Sequence[Any]
    x: Tensor
    qkv: QKV
    grid: tuple[int, int]
    inputs: Mapping[int, Tensor] = field(default_factory=dict)
    pixels: Tensor | None = None

    @property
    def block(self) -> Any:
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
        depth_options: Options that were left at their published values for 12
            blocks. An encoder of another depth is refused if there are any.
    """

    block_inputs: tuple[int, ...] = ()
    needs_pixels = False
    depth_options: tuple[str, ...] = ()

    def __init__(self, residual: bool = True, mlp: bool = True) -> None:
        super().__init__()
        self.residual = residual
        self.mlp = mlp

    def extra_repr(self) -> str:
        """Return the options for printing."""
        return ', '.join(
            f'{key}={value}'
            for key, value in vars(self).items()
            if key not in ('training', 'depth_options') and not key.startswith('_')
        )

    def attend(self, context: LastBlockContext) -> Tensor:
        """Compute the attention's output ``(B, heads, 1+N, d)`` before its projection."""
        raise NotImplementedError

    def forward(self, context: LastBlockContext) -> tuple[Tensor, tuple[int, int]]:
        """Run the block.

        Returns:
            ``(B, 1+N, width)``, and the grid of its patches. It is the context's
            grid, unless the policy changes it.
        """
        x = attention_output(context.block, self.attend(context))
        if self.residual:
            x = context.x + x
        if self.mlp:
            x = x + feed_forward(context.block, x)
        return x, context.grid
