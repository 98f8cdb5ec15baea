"""What the last block of the image tower does: the part where dense encoders differ.

A policy turns the input of block L-1 into its output. It knows no classes and
needs no maps; the encoder records the block's ordinary attention beside it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import Tensor, nn

from ..block import attention_output, feed_forward

QKV = tuple[Tensor, Tensor, Tensor]
Policy = TypeVar('Policy', bound='type[LastBlock]')
# Every policy of this package by its class's name, in the order of definition: the one list.
LAST_BLOCKS: dict[str, 'type[LastBlock]'] = {}


def last_block(policy: Policy) -> Policy:
    """Register a policy, so that a config can name it (``mmtagclip.<class name>``)."""
    LAST_BLOCKS[policy.__name__] = policy
    return policy


@dataclass(frozen=True)
class LastBlockContext:
    """What a policy may look at.

    Attributes:
        blocks: All L blocks.
        x: ``(B, 1+N, width)`` input of block L-1.
        qkv: Queries, keys and values of block L-1 for ``x``,
            ``(B, heads, 1+N, width/heads)`` each.
        grid: ``(h, w)`` in patches, ``N = h * w``.
        inputs: Inputs ``(B, 1+N, width)`` of the blocks that the policy named
            in its ``block_inputs``; that of block ``i`` is the output of block
            ``i - 1``.
        pixels: ``(B, 3, H, W)`` the images, RGB in [0, 1], if the policy
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
    """A policy: the output of block L-1, with its own attention.

    Args:
        residual: Whether the block's input is added to the attention's output.
        mlp: Whether the MLP with its residual follows.

    Attributes:
        block_inputs: Blocks, from 0, whose inputs the policy needs.
        needs_pixels: Whether it looks at the images themselves.
        depth_options: Its options that were left to values which are published
            for 12 blocks; an encoder of another depth is refused then.
    """

    block_inputs: tuple[int, ...] = ()
    needs_pixels = False
    depth_options: tuple[str, ...] = ()

    def __init__(self, residual: bool = True, mlp: bool = True) -> None:
        super().__init__()
        self.residual = residual
        self.mlp = mlp

    def extra_repr(self) -> str:
        """The options, as they are printed."""
        return ', '.join(
            f'{key}={value}'
            for key, value in vars(self).items()
            if key not in ('training', 'depth_options') and not key.startswith('_')
        )

    def attend(self, context: LastBlockContext) -> Tensor:
        """Output of the attention before its projection, ``(B, heads, 1+N, d)``."""
        raise NotImplementedError

    def forward(self, context: LastBlockContext) -> tuple[Tensor, tuple[int, int]]:
        """Run the block.

        Returns:
            ``(B, 1+N, width)``, and the grid of its patches: the context's,
            unless the policy has one of its own.
        """
        x = attention_output(context.block, self.attend(context))
        if self.residual:
            x = context.x + x
        if self.mlp:
            x = x + feed_forward(context.block, x)
        return x, context.grid
