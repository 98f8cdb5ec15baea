"""What the last block of the image tower does: the part where dense encoders differ.

A policy turns the input of block L-1 into its output. It knows no classes and
needs no maps; the encoder records the block's ordinary attention beside it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .block import attend, attention_output, feed_forward, query_key_value

QKV = tuple[Tensor, Tensor, Tensor]


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


class OrdinaryLastBlock(LastBlock):
    """The block as CLIP trained it; gives CLIP's own class token."""

    def attend(self, context: LastBlockContext) -> Tensor:
        """Ordinary attention."""
        return attend(*context.qkv)


class SelfOnlyLastBlock(LastBlock):
    """Every token attends only to itself: TagCLIP, sec. 3.2, and MaskCLIP.

    The attention output is the projected value; residual and MLP stay.
    """

    def attend(self, context: LastBlockContext) -> Tensor:
        """The values."""
        return context.qkv[2]


class SCLIPLastBlock(LastBlock):
    """Correlative self-attention (SCLIP, ECCV 2024): queries to queries plus keys to keys.

    Each row of the attention sums to 2, as published.
    """

    def attend(self, context: LastBlockContext) -> Tensor:
        """Correlative self-attention."""
        return correlative_attention(*context.qkv)


class ClearCLIPLastBlock(LastBlock):
    """Queries to queries, without residual and MLP (ClearCLIP, ECCV 2024)."""

    def __init__(self, residual: bool = False, mlp: bool = False) -> None:
        super().__init__(residual, mlp)

    def attend(self, context: LastBlockContext) -> Tensor:
        """Queries to queries."""
        q, _, v = context.qkv
        return F.scaled_dot_product_attention(q, q, v)


class NACLIPLastBlock(LastBlock):
    """Keys to keys, and near patches the more (NACLIP, WACV 2025), without residual and MLP.

    Args:
        std: Of the Gaussian of the distance, in patches, that is added to the
            logits between patches; published: 5.
        residual: See :class:`LastBlock`.
        mlp: See :class:`LastBlock`.

    Raises:
        ValueError: ``std`` is not positive.
    """

    def __init__(self, std: float = 5.0, residual: bool = False, mlp: bool = False) -> None:
        super().__init__(residual, mlp)
        if std <= 0:
            raise ValueError(f'NACLIPLastBlock needs std > 0, not {std}')
        self.std = std

    def attend(self, context: LastBlockContext) -> Tensor:
        """Keys to keys, with the neighbourhood's Gaussian."""
        _, k, v = context.qkv
        return F.scaled_dot_product_attention(k, k, v, attn_mask=self.nearness(context.grid, k))

    def nearness(self, grid: tuple[int, int], like: Tensor) -> Tensor:
        """``(1+N, 1+N)`` in [0, 1]: 1 on the diagonal, 0 for the class token."""
        axes = [torch.arange(side, dtype=torch.float32, device=like.device) for side in grid]
        y, x = (torch.exp(-((axis - axis[:, None]) ** 2) / (2 * self.std**2)) for axis in axes)
        patches = (y[:, None, :, None] * x[None, :, None, :]).flatten(2).flatten(0, 1)
        return F.pad(patches, (1, 0, 1, 0)).to(like.dtype)


class ITACLIPLastBlock(LastBlock):
    """Correlative self-attention, half of it from earlier blocks (ITACLIP, CVPRW 2025); no MLP.

    Args:
        layers: Blocks, from 0, whose own queries and keys make the other half;
            6, 7 and 9 if None, as published for 12 blocks. Another depth needs
            layers of its own.
        residual: See :class:`LastBlock`.
        mlp: See :class:`LastBlock`.

    Raises:
        ValueError: No layers.
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
        """Mean of the block's own and the earlier blocks' correlative self-attention."""
        v = context.qkv[2]
        others = torch.zeros_like(v)
        for layer in self.block_inputs:
            q, k, _ = query_key_value(context.blocks[layer], context.inputs[layer])
            others += correlative_attention(q, k, v)
        own = correlative_attention(*context.qkv)
        return own / 2 + others / (2 * len(self.block_inputs))


def correlative_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """SCLIP's correlative self-attention, ``(B, heads, 1+N, d)`` each."""
    return F.scaled_dot_product_attention(q, q, v) + F.scaled_dot_product_attention(k, k, v)
