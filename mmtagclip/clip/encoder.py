"""The frozen image tower: dense features and the attention statistics of its blocks."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .block import attend, ride
from .last_blocks import (
    Companions,
    LastBlock,
    LastBlockContext,
    OrdinaryLastBlock,
    SelfOnlyLastBlock,
    Start,
    Streams,
)
from .loading import LoadedCLIP, architecture_digest, weights_digest
from .pooling import LearntPooling
from .steps import Steps
from .towers import POSITIONS, Tower, build_tower

# Modes of torch.compile with CUDA graphs, which keep a result only until the next one.
GRAPH_MODES = ('max-autotune', 'reduce-overhead')
# Most tokens that a CPU encodes together. Products of more rows are no faster, and the system
# allocates the memory of their results again each time.
CPU_TOKENS = 2048
DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float16': torch.float16}
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
        patches: ``(B, N, D)`` float32, unit length, row by row of the grid; to be compared with
            :meth:`DenseEncoder.patch_text`.
        class_token: ``(B, D)`` float32, unit length; the class token, or what the tower
            pools in its place, from the same last block as the patches.
        grid: ``(h, w)`` in patches, ``N = h * w``. It differs from the image's
            grid only if the last-block policy changes it.
        last_input: ``(B, P+N, width)`` float32 input of block L-1, to run that
            block again in another way; the last map of a convolutional tower.
        attention: Statistics of the attention maps.
        input_grid: ``(h, w)`` of the patches in ``last_input``.
        inputs: Inputs ``(B, P+N, width)`` of the requested blocks.
        objectness: ``(B, N)`` logits of patches that show an object; None unless the encoder's
            pooling has learnt them.
    """

    patches: Tensor
    class_token: Tensor
    grid: tuple[int, int]
    last_input: Tensor
    attention: AttentionStatistics
    input_grid: tuple[int, int]
    inputs: dict[int, Tensor] = field(default_factory=dict)
    objectness: Tensor | None = None

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
        one = parts[0]
        inputs = {key: torch.cat([part.inputs[key] for part in parts]) for key in one.inputs}
        objects = [part.objectness for part in parts if part.objectness is not None]
        return cls(
            patches,
            class_token,
            one.grid,
            last_input,
            attention,
            one.input_grid,
            inputs,
            torch.cat(objects) if objects else None,
        )

    def __getitem__(self, image: int) -> 'DenseFeatures':
        """Return the features of one image, with a batch dimension of 1."""
        one = slice(image, image + 1)
        return DenseFeatures(
            self.patches[one],
            self.class_token[one],
            self.grid,
            self.last_input[one],
            self.attention[image],
            self.input_grid,
            {key: value[one] for key, value in self.inputs.items()},
            None if self.objectness is None else self.objectness[one],
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
        last_block: Policy of block L-1. Default: :class:`SelfOnlyLastBlock` if the tower is
            pooled by its class token, else :class:`OrdinaryLastBlock`, because then the pool is
            read patch by patch.
        dtype: ``'float32'``, ``'bfloat16'`` or ``'float16'``: the dtype of the
            image tower's matrix products and their weights. The residual stream,
            norms, softmax, maps, votes, the returned features and the text tower
            are always float32.
        positions: How the positional embedding is resized off the native grid:
            ``'bilinear'`` (TagCLIP), ``'bicubic'`` (MaskCLIP), ``'bicubic_scale'``,
            bicubic sampled at the scale factors ``(h + 0.1) / h0`` and ``(w + 0.1) / w0``
            rather than at ``h / h0`` and ``w / w0`` (SCLIP, ClearCLIP, NACLIP, ITACLIP,
            SC-CLIP), ``'bicubic_antialias'`` (timm) or ``'bilinear_antialias'`` (TIPS).
            Default: as the tower's library does it; bilinear for open_clip's ViT.
        tower: Options of the tower's family, such as ``pool_mlp``; see
            :mod:`mmtagclip.clip.towers`.
        mean: Mean of the normalisation that the weights were trained with, for RGB values in
            [0, 1]. Default: the model's, if it is known.
        std: Its standard deviation; the same.
        pooling: What averages alike patches behind the projection; nothing does by default.
        compiled: Whether ``torch.compile`` compiles the blocks, at their first use; or its
            options, such as ``{'mode': 'max-autotune-no-cudagraphs'}``. Needs a C++ compiler on a
            CPU. Results differ by round-off.

    Attributes:
        tower: The image tower, read patch by patch.
        patch_size: Side of a patch in pixels.
        native_size: Image size ``(H, W)`` in pixels that the model was trained with.
        native_grid: The same in patches.
        num_blocks: Number of blocks, L; 0 for a convolutional tower.
        dim: D, the size of the features.
        last_block: The policy; None for a convolutional tower.
        mean, std: Normalisation of the images that the model was trained with,
            for RGB values in [0, 1].

    Raises:
        ValueError: The dtype, ``positions``, ``compiled`` or an option of the tower is unknown, the
            tower is convolutional and has no last block, the policy needs a block that the model
            does not have, the normalisation is not known, or the pooling is for another model.
    """

    clip: Any
    last_block: LastBlock | None
    pooling: LearntPooling | None

    def __init__(
        self,
        clip: LoadedCLIP,
        last_block: LastBlock | None = None,
        dtype: str = 'float32',
        positions: str | None = None,
        tower: Mapping[str, Any] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        pooling: LearntPooling | None = None,
        compiled: bool | Mapping[str, Any] = False,
    ) -> None:
        super().__init__()
        if dtype not in DTYPES:
            raise ValueError(f'dtype must be one of {", ".join(DTYPES)}, not {dtype!r}')
        if positions not in (None, *POSITIONS):
            raise ValueError(f'positions must be one of {", ".join(POSITIONS)}, not {positions!r}')
        self.name = clip.name
        self.clip = clip.model
        # Not part of `identity`: the tokenizer changes text features only.
        self._tokenizer = clip.tokenizer
        # Before the weights are narrowed, so that `identity` does not depend on the dtype.
        self._weights = None if dtype == 'float32' else weights_digest(self.clip)
        self.tower_options = dict(tower or {})
        # Not part of an identity: it follows from the model and the options.
        self._tower = build_tower(self.visual, self.name, positions, self.tower_options)
        self.positions = self.tower.positions
        for part in list(self.tower.matrices()):
            part.to(DTYPES[dtype])
        self.patch_size = self.tower.stride
        self.native_size = self.tower.native_size
        self.native_grid = self.tower.native_grid
        self.num_blocks = self.tower.num_blocks
        self.dim = self.tower.dim
        self.last_block = self._policy(last_block)
        mean, std = (clip.mean if mean is None else mean), (clip.std if std is None else std)
        if mean is None or std is None:
            raise ValueError(
                f'the normalisation that {self.name} was trained with is not known: set mean and '
                'std of the encoder'
            )
        self.mean, self.std = tuple(mean), tuple(std)
        if not isinstance(compiled, bool | Mapping):
            raise ValueError(
                f'compiled must be True, False or options of torch.compile, not {compiled!r}'
            )
        if isinstance(compiled, Mapping) and compiled.get('mode') in GRAPH_MODES:
            raise ValueError(
                f'the steps of a block are compiled one by one, which the CUDA graphs of mode '
                f'{compiled["mode"]!r} do not allow: use max-autotune-no-cudagraphs'
            )
        self.compiled = compiled if isinstance(compiled, bool) else dict(compiled)
        self._steps: Steps | None = None
        self.pooling = pooling
        if pooling is not None:
            pooling.attach(self)

    @property
    def steps(self) -> Steps:
        """The steps of the blocks; a tracer, as of the export to ONNX, sees them as they are."""
        if not self.compiled or torch.jit.is_tracing():
            return Steps()
        if self._steps is None:
            self._steps = Steps.compiled({} if self.compiled is True else self.compiled)
        return self._steps

    def __getstate__(self) -> dict[str, Any]:
        """Without what was compiled, which can't be pickled and is compiled again."""
        return {**self.__dict__, '_steps': None}

    def _policy(self, last_block: LastBlock | None) -> LastBlock | None:
        """The policy of block L-1, with its layers for the model's depth."""
        if not self.num_blocks:
            if last_block is not None:
                raise ValueError(
                    f'{self.name} is convolutional and has no last block: leave out '
                    f'{type(last_block).__name__}'
                )
            return None
        if last_block is None:
            by_class_token = self.tower.pooled_by == 'class token'
            last_block = SelfOnlyLastBlock() if by_class_token else OrdinaryLastBlock()
        self.fit_policy(last_block)
        return last_block

    def fit_policy(self, last_block: LastBlock) -> None:
        """Choose a policy's layers for the model's depth.

        Raises:
            ValueError: The policy needs a block that the model does not have.
        """
        last_block.set_depth(self.num_blocks)
        for layer in last_block.block_inputs:
            if not 0 <= layer < self.num_blocks:
                raise ValueError(
                    f'{type(last_block).__name__} needs the input of block {layer}, but '
                    f'{self.name} has only blocks 0 to {self.num_blocks - 1}: set its layers'
                )

    @property
    def visual(self) -> Any:
        """The library's image tower."""
        return self.clip.visual

    @property
    def tower(self) -> Tower:
        """The image tower, read patch by patch."""
        return self._tower

    @property
    def tokenizer(self) -> Any:
        """The function that turns texts into token ids."""
        return self._tokenizer

    @property
    def logit_scale(self) -> float:
        """Factor of the cosines: ``exp`` of CLIP's parameter."""
        return float(self.scale)

    @property
    def scale(self) -> Tensor:
        """:attr:`logit_scale` as a tensor on the model's device: the host does not wait for it."""
        return self.clip.logit_scale.exp()

    @property
    def logit_bias(self) -> float | None:
        """What is added to the scaled cosines before a sigmoid; None if not trained with one."""
        bias = getattr(self.clip, 'logit_bias', None)
        return None if bias is None else float(bias)

    @property
    def identity(self) -> dict[str, str]:
        """Everything that determines the patch features, as text; ``name`` is only for messages.

        Weights and architecture are those of both towers.
        """
        if self._weights is None:
            self._weights = weights_digest(self.clip)
        last_block = 'none'
        if self.last_block is not None:
            last_block = f'{type(self.last_block).__name__}({self.last_block.extra_repr()})'
            if self.last_block.state_dict():
                last_block += f' of weights {weights_digest(self.last_block)}'
        options = {'tower': repr(self.tower_options)} if self.tower_options else {}
        if self.pooling is not None:
            options['pooling'] = (
                f'{type(self.pooling).__name__}({self.pooling.extra_repr()}) of weights '
                f'{self.pooling.digest}'
            )
        return {
            'name': self.name,
            'weights': self._weights,
            'architecture': self._architecture,
            'last_block': last_block,
            'positions': self.positions,
            **options,
        }

    @cached_property
    def _architecture(self) -> str:
        return architecture_digest(self.clip)

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the image tower's matrix products."""
        return self.tower.dtype

    @property
    def patch_dim(self) -> int:
        """The size of patch features; D for all towers but dino.txt's."""
        return self.patch_text(torch.zeros(1, self.dim)).shape[1]

    def patch_text(self, text: Tensor) -> Tensor:
        """Text features for patches; see :meth:`mmtagclip.clip.towers.Tower.patch_text`."""
        return self.tower.patch_text(text)

    @torch.no_grad()
    def forward(
        self,
        images: Tensor,
        mean_layers: Collection[Sequence[int]] = (),
        votes: bool = False,
        companions: Companions | None = None,
        inputs: Collection[int] = (),
    ) -> DenseFeatures:
        """Encode images densely.

        The number of ``(N, N)`` maps per image in memory does not depend on L.

        Args:
            images: ``(B, 3, H, W)``, normalised; H and W are multiples of the
                patch size.
            mean_layers: Sets of layers, from 0, whose mean attention maps are
                returned.
            votes: Whether to count the votes over all L blocks.
            companions: What else is known of the images, for policies that need it.
            inputs: Blocks, from 0, whose inputs are returned.

        Raises:
            ValueError: The size does not fit the patches, the model does not have
                one of the layers, or the policy needs other companions.
        """
        wanted = {tuple(sorted(set(layers))) for layers in mean_layers}
        if (wanted or votes) and not self.num_blocks:
            raise ValueError(f'{self.name} is convolutional and has no attention maps')
        for layer in (layer for layers in wanted for layer in layers):
            if not 0 <= layer < self.num_blocks:
                raise ValueError(
                    f'{self.name} has no attention map of layer {layer}: its blocks are '
                    f'0 to {self.num_blocks - 1}'
                )
        companions = Companions() if companions is None else companions
        self._check_companions(companions, images)
        parts, first = [], 0
        for part in self._in_parts(images):
            here = slice(first, first + len(part))
            first = here.stop
            parts.append(self._encode(part, companions[here], wanted, votes, inputs))
        return DenseFeatures.cat(parts)

    def _check_companions(self, companions: Companions, images: Tensor) -> None:
        """Refuse companions that the policy can't use."""
        policy = type(self.last_block).__name__
        needs = {
            'regions': self.last_block is not None and self.last_block.needs_regions,
            'features': self.last_block is not None and self.last_block.whole_grid is not None,
        }
        for key, needed in needs.items():
            one = getattr(companions, key)
            if one is None and needed:
                raise ValueError(
                    f'{policy} needs the {key} of the whole image: use it in a DirectSegmentor'
                    f'{", with mmtagclip.LoadRegions in the pipeline" * (key == "regions")}'
                )
            if one is not None and len(one) != len(images):
                raise ValueError(f'{key} of {len(one)} images are given for {len(images)}')
        regions = companions.regions
        if regions is not None and regions.shape[1:] != images.shape[2:]:
            raise ValueError(
                f'regions {tuple(regions.shape)} do not fit images {tuple(images.shape)}'
            )

    def _encode(
        self,
        images: Tensor,
        companions: Companions,
        wanted: Collection[tuple[int, ...]],
        votes: bool,
        inputs: Collection[int],
    ) -> DenseFeatures:
        """Encode images together; the arguments are those of :meth:`forward`, already checked."""
        if self.last_block is None:
            x, grid = self.embed(images)
            patches, whole = (F.normalize(one, dim=-1) for one in self.read(x, grid))
            return DenseFeatures(patches, whole, grid, x, AttentionStatistics(), grid)
        statistics = AttentionStatistics()

        def look(index: int, q: Tensor, k: Tensor, v: Tensor | None) -> Tensor | None:
            if not votes and not any(index in layers for layers in wanted):
                return None
            attention, y = self.steps.attention_map(q, k, v, self.tower.lead)
            _record(statistics, attention, index, wanted, votes)
            return y

        context = self.walk(images, look, companions, inputs)
        for layers, total in statistics.means.items():
            total /= len(layers)
        patches, whole, grid, objectness = self.finish(context)
        if grid != context.grid and (votes or wanted):
            raise ValueError(
                f'{type(self.last_block).__name__} returns a grid of {grid[0]}x{grid[1]} '
                f'patches, but attention maps have {context.grid[0]}x{context.grid[1]}: '
                'set keep_grid=False'
            )
        patches, whole = (F.normalize(one, dim=-1) for one in (patches, whole))
        kept = {layer: context.inputs[layer] for layer in inputs}
        return DenseFeatures(
            patches, whole, grid, context.x, statistics, context.grid, kept, objectness
        )

    def finish(
        self, context: LastBlockContext
    ) -> tuple[Tensor, Tensor, tuple[int, int], Tensor | None]:
        """Run the last block and what follows it.

        Args:
            context: Of :meth:`walk`.

        Returns:
            Patches ``(B, N, D)`` and global feature ``(B, D)``, not of unit length, the grid of the
            patches, and :attr:`DenseFeatures.objectness`.
        """
        assert self.last_block is not None
        out, grid = self.last_block(context)
        patches, whole = self.read(out, grid)
        if self.pooling is None:
            return patches, whole, grid, None
        patches, grid, objectness = self.pooling(patches, grid, context)
        return patches, whole, grid, objectness

    @torch.no_grad()
    def raw_patches(
        self, images: Tensor, companions: Companions | None = None
    ) -> tuple[Tensor, tuple[int, int]]:
        """Encode images; the features ``(B, N, D)`` keep their length, and their grid ``(h, w)``.

        Args:
            images: See :meth:`forward`.
            companions: The same.
        """
        if self.last_block is None:
            x, grid = self.embed(images)
            return self.read(x, grid)[0], grid
        patches, _, grid, _ = self.finish(self.walk(images, lambda *_: None, companions))
        return patches, grid

    def read(
        self, out: Streams, grid: tuple[int, int], policy: LastBlock | None = None
    ) -> tuple[Tensor, Tensor]:
        """Read patches and global feature of what comes out of the last block.

        Args:
            out: One output ``(B, P+N, width)``, or several with their weights; see
                :class:`LastBlock`.
            grid: The grid ``(h, w)`` of its patches.
            policy: The policy that it came out of; the encoder's own if None.

        Returns:
            ``(B, N, D)``, the weighted sum of all outputs, and ``(B, D)``, of the first. Their
            lengths are not 1.
        """
        policy = self.last_block if policy is None else policy
        first: Tensor | None = None
        whole: Tensor | None = None
        for weight, x in [(1.0, out)] if isinstance(out, Tensor) else out:
            t = self.tower.norm(x)
            if policy is not None:
                t = policy.gather(t, grid)
            patches, one = self.tower.read(t, grid)
            if first is None or whole is None:
                first, whole = (patches if weight == 1 else weight * patches), one
            else:
                first = first + weight * patches
        assert first is not None
        assert whole is not None
        return first, whole

    def walk(
        self,
        images: Tensor,
        look: Look,
        companions: Companions | None = None,
        kept: Collection[int] = (),
    ) -> LastBlockContext:
        """Run the blocks up to the attention of block L-1.

        Args:
            images: ``(B, 3, H, W)``, normalised.
            look: Called for each block with its index, queries, keys and values. The
                values of block L-1 are None, because the policy computes its output.
                May return the attention output, if it computes it anyway.
            companions: What else is known of the images.
            kept: Further blocks whose inputs the context is to have.

        Returns:
            The context for the policy of the last block.
        """
        assert self.last_block is not None
        companions = Companions() if companions is None else companions
        self._check_companions(companions, images)
        inputs: dict[int, Tensor] = {}
        middle = None
        x, grid = self.embed(images)
        lead = self.tower.lead
        pixels = self.pixels(images) if self.last_block.needs_pixels else None
        prepared = self.last_block.prepare(Start(x, grid, lead, pixels, companions))
        riders, seen = prepared.riders, None
        if riders is not None and prepared.seen is not None:
            seen = F.pad(prepared.seen, (lead, 0), value=True)[:, None]
        blocks, steps = self.tower.blocks(grid), self.steps
        for index, block in enumerate(blocks):
            last = index == self.num_blocks - 1
            if index in self.last_block.block_inputs or index in kept:
                inputs[index] = x
            if riders is None:
                q, k, v = steps.query_key_value(block, x)
            else:
                q, k, v, riders = ride(block, riders, x, seen)
            y = look(index, q, k, None if last else v)
            if not last:
                y = attend(q, k, v) if y is None else y
                if self.pooling is not None and index == self.pooling.block:
                    x = x + block.attention_output(y)
                    middle = block.mlp_input(x)[:, lead:]
                    x = block.after_attention(x)
                else:
                    x = steps.add_attention(block, x, y)
        return LastBlockContext(
            blocks, x, (q, k, v), grid, inputs, pixels, lead, companions, prepared, riders, middle
        )

    @torch.no_grad()
    def pooling_input(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Compute what the pooling reads, and run no later block.

        Args:
            images: See :meth:`forward`.

        Returns:
            ``(B, N, width)``, and the grid ``(h, w)``.
        """
        assert self.pooling is not None
        parts = []
        for part in self._in_parts(images):
            x, grid = self.embed(part)
            *earlier, block = self.tower.blocks(grid)[: self.pooling.block + 1]
            for one in earlier:
                x = one.ordinary(x)
            x = x + block.attention_output(attend(*block.query_key_value(x)))
            parts.append(block.mlp_input(x)[:, self.tower.lead :])
        return torch.cat(parts), grid

    @torch.no_grad()
    def encode_class_token(self, images: Tensor, seen: Tensor | None = None) -> Tensor:
        """Compute plain CLIP's global feature, optionally of some patches only.

        What reads the global feature is masked: the class token's row in every block, the logits
        of an attention pool, or the mean of the patches.

        Args:
            images: ``(B, 3, H, W)``, normalised; H and W are multiples of the
                patch size.
            seen: ``(B, N)`` bool, the patches that count. -1000 is added to the attention logits
                of the others; a mean of no patch is that of all.

        Returns:
            ``(B, D)`` float32, unit length.

        Raises:
            ValueError: The mask is for another number of images.
        """
        if seen is not None and len(seen) != len(images):
            raise ValueError(f'seen is for {len(seen)} images, but there are {len(images)}')
        parts = self._in_parts(images)
        masks = [None] * len(parts) if seen is None else seen.split([len(one) for one in parts])
        return torch.cat(
            [self._encode_class_token(part, mask) for part, mask in zip(parts, masks, strict=True)]
        )

    def _encode_class_token(self, images: Tensor, seen: Tensor | None) -> Tensor:
        x, grid = self.embed(images)
        row = self.tower.row_mask(seen)
        for block in self.tower.blocks(grid)[:-1]:
            x = self.steps.ordinary(block, x, row)
        return F.normalize(self.tower.global_feature(x, grid, seen), dim=-1)

    @torch.no_grad()
    def ordinary_class_token(self, features: DenseFeatures) -> Tensor:
        """Compute plain CLIP's global feature ``(B, D)`` of images that are already encoded.

        Runs only block L-1, as CLIP trained it.
        """
        feature = self.tower.global_feature(features.last_input, features.input_grid, None)
        return F.normalize(feature, dim=-1)

    def _in_parts(self, images: Tensor) -> tuple[Tensor, ...]:
        """Split a batch into the parts that are encoded together; only a CPU needs to split."""
        if images.device.type != 'cpu':
            return (images,)
        # The early maps of a convolutional tower are larger than its strides suggest.
        side = self.patch_size if self.num_blocks else 16
        tokens = self.tower.lead + images[:1].numel() // (3 * side**2)
        return images.split(max(1, CPU_TOKENS // max(1, tokens)))

    def embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Compute the input ``(B, P+N, width)`` float32 of block 0, and the patch grid ``(h, w)``.

        Raises:
            ValueError: The shape is not ``(B, 3, H, W)``, or H or W is not a multiple
                of the patch size.
        """
        patch = self.patch_size
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
        return self.tower.embed(images)

    def pixels(self, images: Tensor) -> Tensor:
        """Undo the normalisation: RGB in [0, 1]."""
        mean, std = self._normalisation(images.device)
        return images * std + mean

    def normalise(self, pixels: Tensor) -> Tensor:
        """Normalise RGB in [0, 1] as the model was trained."""
        mean, std = self._normalisation(pixels.device)
        return (pixels - mean) / std

    def _normalisation(self, device: torch.device) -> tuple[Tensor, Tensor]:
        mean, std = (
            torch.tensor(one, device=device).view(3, 1, 1) for one in (self.mean, self.std)
        )
        return mean, std


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
