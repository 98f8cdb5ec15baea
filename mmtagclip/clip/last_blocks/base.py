"""Policies of the last block of the image tower, in which dense encoders differ.

A policy turns the input of block L-1 into its output. It uses no classes and no
attention maps. The encoder records the block's ordinary attention separately.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import Tensor, nn

from ..block import QKV, Block

Policy = TypeVar('Policy', bound='type[LastBlock]')
# What comes out of a last block: one output (B, P+N, width), or several with their weights.
Streams = Tensor | Sequence[tuple[float, Tensor]]
# The region of pixels that pad an image.
PADDING = 2**31 - 1
# All policies by class name, in the order of definition. There is no other list.
LAST_BLOCKS: dict[str, 'type[LastBlock]'] = {}


def last_block(policy: Policy) -> Policy:
    """Register a policy, so that a config can name it (``mmtagclip.<class name>``)."""
    LAST_BLOCKS[policy.__name__] = policy
    return policy


@dataclass(frozen=True)
class Companions:
    """What is known of a batch of images besides their pixels, at the same places.

    Attributes:
        regions: ``(B, H, W)`` integers, the region of each pixel of the images as they are encoded;
            0 belongs to no region, :data:`PADDING` to no image.
        features: ``(B, C', h', w')`` float32, what another model made of the whole images, cut out
            where these are, on the grid that the policy's ``whole_grid`` asks for.
    """

    regions: Tensor | None = None
    features: Tensor | None = None

    def __getitem__(self, images: slice) -> 'Companions':
        """Return those of some of the images."""
        return self.change(lambda one: one[images])

    def change(self, function: Callable[[Tensor], Tensor]) -> 'Companions':
        """Return them with a function applied to each, such as a flip."""
        return Companions(
            *(None if one is None else function(one) for one in (self.regions, self.features))
        )


@dataclass(frozen=True)
class Start:
    """What a policy may prepare from, before the first block.

    Attributes:
        x: ``(B, P+N, width)`` input of block 0.
        grid: ``(h, w)`` in patches.
        lead: P, the number of tokens in front of the patches.
        pixels: See :class:`LastBlockContext`.
        companions: The same.
    """

    x: Tensor
    grid: tuple[int, int]
    lead: int
    pixels: Tensor | None
    companions: Companions


@dataclass(frozen=True)
class Prepared:
    """What a policy prepared; a policy derives from it to hold more.

    Attributes:
        riders: ``(B, R, width)`` tokens that ride along, as input of block 0; None for none. In
            every block, block L-1 included, each attends to the tokens in front of the patches and
            to the patches that it sees, not to other riders. No other token sees them.
        seen: ``(B, R, N)`` bool, the patches that each sees.
    """

    riders: Tensor | None = None
    seen: Tensor | None = None


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
        companions: What else is known of the images.
        prepared: What the policy's ``prepare`` returned.
        riders: ``(B, R, width)``, output of block L-1 of the tokens that rode along, if any.
        middle: ``(B, N, width)``, what the encoder's pooling reads of its block, if it has one.
    """

    blocks: Sequence[Block]
    x: Tensor
    qkv: QKV
    grid: tuple[int, int]
    inputs: Mapping[int, Tensor] = field(default_factory=dict)
    pixels: Tensor | None = None
    lead: int = 1
    companions: Companions = field(default_factory=Companions)
    prepared: Any = None
    riders: Tensor | None = None
    middle: Tensor | None = None

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
        needs_regions: Whether it needs the regions of :class:`Companions`.
        whole_grid: On how many cells per patch, along each side, it needs the features of
            :class:`Companions`, which :meth:`whole_features` computes once per image; None if it
            needs none.
    """

    block_inputs: tuple[int, ...] = ()
    needs_pixels = False
    needs_regions = False
    whole_grid: int | None = None

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

    def prepare(self, start: Start) -> Prepared:
        """Prepare what is needed before the first block; here: nothing."""
        return Prepared()

    def whole_features(self, pixels: Tensor) -> Tensor:
        """Compute another model's features of a whole image, for policies with ``whole_grid``.

        Args:
            pixels: ``(1, 3, H, W)`` RGB in [0, 1], the original image.

        Returns:
            ``(C', h', w')``.
        """
        raise NotImplementedError

    def attend(self, context: LastBlockContext) -> Tensor:
        """Compute the attention's output ``(B, heads, P+N, d)`` before its projection."""
        raise NotImplementedError

    def gather(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Change the tokens ``(B, P+N, width)`` behind the tower's norm; here: not at all."""
        return tokens

    def forward(self, context: LastBlockContext) -> tuple[Streams, tuple[int, int]]:
        """Run the block.

        Returns:
            ``(B, P+N, width)``, and the grid of its patches. It is the context's
            grid, unless the policy changes it. Instead of one output, there may be several, each
            with its weight: the features of the patches are their weighted sum, each read by
            itself, and the global feature is that of the first.
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
