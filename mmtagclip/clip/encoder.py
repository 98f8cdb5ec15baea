"""The frozen image tower: dense features and the attention statistics of its blocks."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from torch import Tensor, nn

from .block import (
    attend,
    attention_map,
    attention_output,
    feed_forward,
    last_class_token,
    ordinary_block,
    query_key_value,
)
from .last_blocks import LastBlock, LastBlockContext, SelfOnlyLastBlock
from .loading import LoadedCLIP, architecture_digest, weights_digest

# Most tokens that a CPU encodes together. Products of more rows are no faster, and the system
# allocates the memory of their results again each time.
CPU_TOKENS = 2048
DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float16': torch.float16}
POSITIONS = ('bilinear', 'bicubic', 'bicubic_scale')
Look = Callable[[int, Tensor, Tensor, Tensor | None], Tensor | None]


@dataclass
class AttentionStatistics:
    """Statistics of the blocks' attention maps; the maps themselves are discarded.

    ``A_l`` is the softmax attention of block ``l``, averaged over heads, patch
    rows and columns only: ``(N, N)`` per image.

    Attributes:
        votes: ``(B, N, N)`` uint8, the number of the L blocks in which
            ``A_l[i, j] > mean(A_l)``; None if not requested.
        means: The mean map ``(B, N, N)`` float32 of each requested set of layers.
    """

    votes: Tensor | None = None
    means: dict[tuple[int, ...], Tensor] = field(default_factory=dict)

    def mean(self, layers: Iterable[int]) -> Tensor:
        """Return the mean map ``(B, N, N)`` of a requested set of layers.

        Raises:
            KeyError: These layers were not requested.
        """
        key = tuple(sorted(set(layers)))
        if key not in self.means:
            raise KeyError(
                f'the mean map of layers {key} was not requested from the encoder, only those of '
                f'{list(self.means)}'
            )
        return self.means[key]

    @classmethod
    def cat(cls, parts: Sequence['AttentionStatistics']) -> 'AttentionStatistics':
        """Concatenate the statistics of several batches of images of one size."""
        votes = [one.votes for one in parts if one.votes is not None]
        return cls(
            torch.cat(votes) if votes else None,
            {key: torch.cat([one.means[key] for one in parts]) for key in parts[0].means},
        )

    def __getitem__(self, image: int) -> 'AttentionStatistics':
        """Return the statistics of one image, with a batch dimension of 1."""
        one = slice(image, image + 1)
        return AttentionStatistics(
            None if self.votes is None else self.votes[one],
            {key: value[one] for key, value in self.means.items()},
        )


@dataclass
class DenseFeatures:
    """The encoder's output for a batch of images of one size.

    Attributes:
        patches: ``(B, N, D)`` float32, unit length, row by row of the grid.
        class_token: ``(B, D)`` float32, unit length; from the same last block as
            the patches.
        grid: ``(h, w)`` in patches, ``N = h * w``. It differs from the image's
            grid only if the last-block policy changes it.
        last_input: ``(B, 1+N, width)`` float32 input of block L-1, to run that
            block again in another way.
        attention: Statistics of the attention maps.
    """

    patches: Tensor
    class_token: Tensor
    grid: tuple[int, int]
    last_input: Tensor
    attention: AttentionStatistics

    @classmethod
    def cat(cls, parts: Sequence['DenseFeatures']) -> 'DenseFeatures':
        """Concatenate several batches of images of one size."""
        if len(parts) == 1:
            return parts[0]
        patches, class_token, last_input = (
            torch.cat([getattr(one, key) for one in parts])
            for key in ('patches', 'class_token', 'last_input')
        )
        attention = AttentionStatistics.cat([one.attention for one in parts])
        return cls(patches, class_token, parts[0].grid, last_input, attention)

    def __getitem__(self, image: int) -> 'DenseFeatures':
        """Return the features of one image, with a batch dimension of 1."""
        one = slice(image, image + 1)
        return DenseFeatures(
            self.patches[one],
            self.class_token[one],
            self.grid,
            self.last_input[one],
            self.attention[image],
        )


@dataclass(frozen=True, eq=False)
class Encoded:
    """A batch of images of one size, their features, and the encoder.

    Attributes:
        features: The features, with the requested attention statistics.
        images: ``(B, 3, H, W)``, normalised, as they were encoded.
        encoder: The encoder, to encode parts of the images again.
    """

    features: DenseFeatures
    images: Tensor
    encoder: 'DenseEncoder'

    def __getitem__(self, image: int) -> 'Encoded':
        """Return one image, with a batch dimension of 1."""
        return Encoded(self.features[image], self.images[image : image + 1], self.encoder)


class DenseEncoder(nn.Module):
    """A frozen CLIP that returns patch features and attention statistics.

    Args:
        clip: The loaded model.
        last_block: Policy of block L-1. Default: :class:`SelfOnlyLastBlock`.
        dtype: ``'float32'``, ``'bfloat16'`` or ``'float16'``: the dtype of the
            image tower's matrix products and their weights. The residual stream,
            norms, softmax, maps, votes, the returned features and the text tower
            are always float32.
        positions: How the positional embedding is resized off the native grid:
            ``'bilinear'`` (TagCLIP), ``'bicubic'`` (MaskCLIP) or
            ``'bicubic_scale'``, bicubic sampled at the scale factors
            ``(h + 0.1) / h0`` and ``(w + 0.1) / w0`` rather than at ``h / h0``
            and ``w / w0`` (SCLIP, ClearCLIP, NACLIP, ITACLIP, SC-CLIP).

    Attributes:
        patch_size: Side of a patch in pixels.
        native_size: Image size ``(H, W)`` in pixels that the model was trained with.
        native_grid: The same in patches.
        num_blocks: Number of blocks, L.
        mean, std: Normalisation of the images that the model was trained with,
            for RGB values in [0, 1].

    Raises:
        ValueError: The dtype or ``positions`` is unknown, the policy needs a block
            that the model does not have, or its defaults are for another number of
            blocks.
    """

    clip: Any
    last_block: LastBlock

    def __init__(
        self,
        clip: LoadedCLIP,
        last_block: LastBlock | None = None,
        dtype: str = 'float32',
        positions: str = 'bilinear',
    ) -> None:
        super().__init__()
        if dtype not in DTYPES:
            raise ValueError(f'dtype must be one of {", ".join(DTYPES)}, not {dtype!r}')
        if positions not in POSITIONS:
            raise ValueError(f'positions must be one of {", ".join(POSITIONS)}, not {positions!r}')
        self.positions = positions
        self.name = clip.name
        self.clip = clip.model
        # Not part of `identity`: the tokenizer changes text features only.
        self._tokenizer = clip.tokenizer
        # Before the weights are narrowed, so that `identity` does not depend on the dtype.
        self._weights = None if dtype == 'float32' else weights_digest(self.clip)
        for part in self.visual.modules():
            if isinstance(part, nn.Conv2d | nn.Linear | nn.MultiheadAttention):
                part.to(DTYPES[dtype])
        self.last_block = SelfOnlyLastBlock() if last_block is None else last_block
        self.patch_size: int = self.visual.patch_size[0]
        self.native_size: tuple[int, int] = tuple(self.visual.image_size)
        self.native_grid: tuple[int, int] = tuple(self.visual.grid_size)
        self.num_blocks = len(self.visual.transformer.resblocks)
        if self.last_block.depth_options and self.num_blocks != 12:
            raise ValueError(
                f'{self.name} has {self.num_blocks} blocks, but the defaults of '
                f'{type(self.last_block).__name__} are for 12: set its '
                f'{", ".join(self.last_block.depth_options)}'
            )
        for layer in self.last_block.block_inputs:
            if not 0 <= layer < self.num_blocks:
                raise ValueError(
                    f'{type(self.last_block).__name__} needs the input of block '
                    f'{layer}, but {self.name} has only blocks 0 to '
                    f'{self.num_blocks - 1}: set its layers'
                )
        preprocess = getattr(self.visual, 'preprocess_cfg', {})
        self.mean: tuple[float, ...] = tuple(preprocess.get('mean', OPENAI_DATASET_MEAN))
        self.std: tuple[float, ...] = tuple(preprocess.get('std', OPENAI_DATASET_STD))

    @property
    def visual(self) -> Any:
        """The image tower."""
        return self.clip.visual

    @property
    def tokenizer(self) -> Any:
        """The function that turns texts into token ids."""
        return self._tokenizer

    @property
    def logit_scale(self) -> float:
        """Factor of the cosines: ``exp`` of CLIP's parameter."""
        return float(self.clip.logit_scale.exp())

    @property
    def identity(self) -> dict[str, str]:
        """Everything that determines the patch features, as text; ``name`` is only for messages.

        Weights and architecture are those of both towers.
        """
        if self._weights is None:
            self._weights = weights_digest(self.clip)
        last_block = f'{type(self.last_block).__name__}({self.last_block.extra_repr()})'
        if self.last_block.state_dict():
            last_block += f' of weights {weights_digest(self.last_block)}'
        return {
            'name': self.name,
            'weights': self._weights,
            'architecture': self._architecture,
            'last_block': last_block,
            'positions': self.positions,
        }

    @cached_property
    def _architecture(self) -> str:
        return architecture_digest(self.clip)

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the image tower's matrix products."""
        return self.visual.conv1.weight.dtype

    @torch.no_grad()
    def forward(
        self, images: Tensor, mean_layers: Collection[Sequence[int]] = (), votes: bool = False
    ) -> DenseFeatures:
        """Encode images densely.

        The number of ``(N, N)`` maps per image in memory does not depend on L.

        Args:
            images: ``(B, 3, H, W)``, normalised; H and W are multiples of the
                patch size.
            mean_layers: Sets of layers, from 0, whose mean attention maps are
                returned.
            votes: Whether to count the votes over all L blocks.

        Raises:
            ValueError: The size does not fit the patches, or the model does not have
                one of the layers.
        """
        wanted = {tuple(sorted(set(layers))) for layers in mean_layers}
        for layer in (layer for layers in wanted for layer in layers):
            if not 0 <= layer < self.num_blocks:
                raise ValueError(
                    f'{self.name} has no attention map of layer {layer}: its blocks are '
                    f'0 to {self.num_blocks - 1}'
                )
        return DenseFeatures.cat(
            [self._encode(part, wanted, votes) for part in self._in_parts(images)]
        )

    def _encode(
        self, images: Tensor, wanted: Collection[tuple[int, ...]], votes: bool
    ) -> DenseFeatures:
        """Encode images together; the arguments are those of :meth:`forward`, already checked."""
        statistics = AttentionStatistics()

        def look(index: int, q: Tensor, k: Tensor, v: Tensor | None) -> Tensor | None:
            if not votes and not any(index in layers for layers in wanted):
                return None
            attention, y = attention_map(q, k, v)
            _record(statistics, attention, index, wanted, votes)
            return y

        context = self.walk(images, look)
        for layers, total in statistics.means.items():
            total /= len(layers)
        out, grid = self.last_block(context)
        if grid != context.grid and (votes or wanted):
            raise ValueError(
                f'{type(self.last_block).__name__} returns a grid of {grid[0]}x{grid[1]} '
                f'patches, but attention maps have {context.grid[0]}x{context.grid[1]}: '
                'set keep_grid=False'
            )
        tokens = self.project(out)
        return DenseFeatures(tokens[:, 1:], tokens[:, 0], grid, context.x, statistics)

    def walk(self, images: Tensor, look: Look) -> LastBlockContext:
        """Run the blocks up to the attention of block L-1.

        Args:
            images: ``(B, 3, H, W)``, normalised.
            look: Called for each block with its index, queries, keys and values. The
                values of block L-1 are None, because the policy computes its output.
                May return the attention output, if it computes it anyway.

        Returns:
            The context for the policy of the last block.
        """
        blocks = self.visual.transformer.resblocks
        inputs: dict[int, Tensor] = {}
        x, grid = self.embed(images)
        for index, block in enumerate(blocks):
            last = index == self.num_blocks - 1
            if index in self.last_block.block_inputs:
                inputs[index] = x
            q, k, v = query_key_value(block, x)
            y = look(index, q, k, None if last else v)
            if not last:
                x = x + attention_output(block, attend(q, k, v) if y is None else y)
                x = x + feed_forward(block, x)
        pixels = self._pixels(images) if self.last_block.needs_pixels else None
        return LastBlockContext(blocks, x, (q, k, v), grid, inputs, pixels)

    @torch.no_grad()
    def encode_class_token(self, images: Tensor, class_mask: Tensor | None = None) -> Tensor:
        """Compute plain CLIP's class token, optionally restricted to some patches.

        Args:
            images: ``(B, 3, H, W)``, normalised; H and W are multiples of the
                patch size.
            class_mask: ``(B, N)``, added in every block to the attention logits
                of the class token's row over the patches.

        Returns:
            ``(B, D)`` float32, unit length.

        Raises:
            ValueError: The mask is for another number of images.
        """
        if class_mask is not None and len(class_mask) != len(images):
            raise ValueError(
                f'class_mask is for {len(class_mask)} images, but there are {len(images)}'
            )
        parts = self._in_parts(images)
        masks = (
            [None] * len(parts)
            if class_mask is None
            else class_mask.split([len(part) for part in parts])
        )
        return torch.cat(
            [self._encode_class_token(part, mask) for part, mask in zip(parts, masks, strict=True)]
        )

    def _encode_class_token(self, images: Tensor, class_mask: Tensor | None) -> Tensor:
        x, _ = self.embed(images)
        *blocks, last = self.visual.transformer.resblocks
        for block in blocks:
            x = ordinary_block(block, x, class_mask)
        return self.project(last_class_token(last, x, class_mask))[:, 0]

    @torch.no_grad()
    def ordinary_class_token(self, features: DenseFeatures) -> Tensor:
        """Compute plain CLIP's class token ``(B, D)`` of images that are already encoded.

        Runs only block L-1, as CLIP trained it.
        """
        block, x = self.visual.transformer.resblocks[-1], features.last_input
        return self.project(last_class_token(block, x))[:, 0]

    def _in_parts(self, images: Tensor) -> tuple[Tensor, ...]:
        """Split a batch into the parts that are encoded together; only a CPU needs to split."""
        if images.device.type != 'cpu':
            return (images,)
        tokens = 1 + images[:1].numel() // (3 * self.patch_size**2)
        return images.split(max(1, CPU_TOKENS // tokens))

    def embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Compute the input ``(B, 1+N, width)`` float32 of block 0, and the patch grid ``(h, w)``.

        Raises:
            ValueError: The shape is not ``(B, 3, H, W)``, or H or W is not a multiple
                of the patch size.
        """
        visual, patch = self.visual, self.patch_size
        if (
            images.ndim != 4
            or images.shape[1] != 3
            or any(side == 0 or side % patch for side in images.shape[2:])
        ):
            raise ValueError(
                f'{self.name} needs images (B, 3, H, W) with H and W multiples of its '
                f'patch size {patch}, not {tuple(images.shape)}; resize them with '
                'ResizeToPatchGrid'
            )
        x = visual.conv1(images.to(self.dtype)).float()
        grid = (x.shape[2], x.shape[3])
        x = x.flatten(2).transpose(1, 2)
        class_token = visual.class_embedding.expand(x.shape[0], 1, -1)
        x = torch.cat([class_token, x], dim=1) + self.positional_embedding(grid)
        return visual.ln_pre(x), grid

    def positional_embedding(self, grid: tuple[int, int]) -> Tensor:
        """Return the positional embedding ``(1+N, width)`` for a patch grid.

        It is unchanged on the native grid. On other grids it is interpolated as set
        by :attr:`positions`, with ``align_corners=False``.
        """
        embedding = self.visual.positional_embedding
        if grid == self.native_grid:
            return embedding
        height, width = self.native_grid
        square = embedding[1:].reshape(1, height, width, -1).permute(0, 3, 1, 2)
        resized = resize_positions(square, grid, self.positions)
        return torch.cat([embedding[:1], resized.flatten(2)[0].T])

    def _pixels(self, images: Tensor) -> Tensor:
        """Undo the normalisation: RGB in [0, 1]."""
        mean, std = (
            torch.tensor(one, device=images.device).view(3, 1, 1) for one in (self.mean, self.std)
        )
        return images * std + mean

    def project(self, x: Tensor) -> Tensor:
        """Apply ``ln_post``, projection and L2 norm: ``(B, n, width)`` to ``(B, n, D)`` float32."""
        return F.normalize(self.visual.ln_post(x) @ self.visual.proj, dim=-1)


def resize_positions(square: Tensor, grid: tuple[int, int], how: str) -> Tensor:
    """Resize the positional embedding of a grid of patches.

    Args:
        square: ``(1, width, h0, w0)``, as trained.
        grid: Target grid ``(h, w)``; the native grid changes nothing.
        how: One of :data:`POSITIONS`, see :class:`DenseEncoder`.

    Returns:
        ``(1, width, h, w)``.
    """
    height, width = square.shape[2:]
    if grid == (height, width):
        return square
    if how == 'bicubic_scale':
        # torch samples with these exact factors, so the result differs from resizing to `grid`.
        factors = ((grid[0] + 0.1) / height, (grid[1] + 0.1) / width)
        return F.interpolate(square, scale_factor=factors, mode='bicubic')
    return F.interpolate(square, size=grid, mode=how, align_corners=False)


def _record(
    statistics: AttentionStatistics,
    attention: Tensor,
    layer: int,
    wanted: Collection[tuple[int, ...]],
    votes: bool,
) -> None:
    """Add one layer's map ``(B, N, N)`` to the statistics."""
    if votes:
        above = attention > attention.mean(dim=(1, 2), keepdim=True)
        if statistics.votes is None:
            statistics.votes = above.to(torch.uint8)
        else:
            statistics.votes += above
    for layers in wanted:
        if layer in layers:
            if layers in statistics.means:
                statistics.means[layers] += attention
            else:
                statistics.means[layers] = attention.clone()
