"""Patches averaged over the patches that a learnt map finds alike (CLIP-DINOiser, ECCV 2024)."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..files import user_path
from .last_blocks import LastBlockContext
from .loading import read_state_dict, weights_digest

if TYPE_CHECKING:
    from .encoder import DenseEncoder

WEIGHTS = ('obj_proj.weight', 'obj_proj.bias')
# The CLIP of the released file, which does not say it.
RELEASED = 'ViT-B-16 (laion2b_s34b_b88k)'
DECODER = ('bkg_decoder.weight', 'bkg_decoder.bias')


class LearntPooling(nn.Module):
    """Average each patch with those that two small convolutions have learnt to find alike.

    A 3x3 convolution reads what the MLP of an earlier block reads. The cosines of its output are
    the weights of the average, which is taken behind the projection and before features get unit
    length. A 1x1 convolution says which patches show an object. The parts have the names of the
    released file.

    Args:
        checkpoint: File of the weights: the released ``last.pt``, or a checkpoint of
            ``tools/train.py``. Without it, the weights are random, which is for training only.
        layer: Block that it reads; negative numbers count from the end. Published: -3.
        gamma: Smaller cosines count as 0. Published: 0.2.
        channels: Output channels of the 3x3 convolution. Published: 256. Ignored with a
            checkpoint.
        objectness: Whether there is the 1x1 convolution. Ignored with a checkpoint.
        clip: Name of the CLIP that the file was trained with, for a file that does not say it: by
            default the released one's. Only the width is checked if it is None.

    Attributes:
        block: The block that it reads, from 0.

    Raises:
        FileNotFoundError: There is no checkpoint.
        ValueError: ``channels`` is not positive.
    """

    identity: Tensor

    def __init__(
        self,
        checkpoint: str | Path | None = None,
        layer: int = -3,
        gamma: float = 0.2,
        channels: int = 256,
        objectness: bool = False,
        clip: str | None = RELEASED,
    ) -> None:
        super().__init__()
        if channels < 1:
            raise ValueError(f'LearntPooling needs channels >= 1, not {channels}')
        if checkpoint is not None and not user_path(checkpoint).is_file():
            raise FileNotFoundError(
                f'no pooling at {checkpoint}: copy checkpoints/last.pt of '
                'https://github.com/wysoczanska/clip_dinoiser there, or train one with '
                'tools/train.py and a config of configs/pooling'
            )
        self._checkpoint = checkpoint
        self._clip = clip
        self.layer = layer
        self.gamma = gamma
        self.channels = channels
        self.objectness = objectness
        self.block = layer

    def extra_repr(self) -> str:
        """Return the options for printing."""
        return f'block={self.block}, gamma={self.gamma}'

    def attach(self, encoder: 'DenseEncoder') -> None:
        """Make or load the weights for an encoder.

        Raises:
            ValueError: The encoder does not have the block, or the checkpoint holds something
                else or was trained with another CLIP.
        """
        count = encoder.num_blocks
        if not count:
            raise ValueError(f'{encoder.name} is convolutional: a LearntPooling reads a block')
        self.block = self.layer + count if self.layer < 0 else self.layer
        if not 0 <= self.block < count - 1:
            raise ValueError(
                f'LearntPooling reads a block before the last one, but {encoder.name} has '
                f'{count} blocks and layer is {self.layer}: set another layer'
            )
        with torch.no_grad():
            width = encoder.embed(torch.zeros(1, 3, *encoder.native_size))[0].shape[2]
        state = None if self._checkpoint is None else self._read(encoder, width)
        if state is not None:
            self.channels = len(state[WEIGHTS[0]])
            self.objectness = DECODER[0] in state
        self.obj_proj = nn.Conv2d(width, self.channels, 3, padding=1, padding_mode='replicate')
        if self.objectness:
            self.bkg_decoder = nn.Conv2d(width, 1, 1)
        ours = self._identity(encoder)
        self.register_buffer('identity', ours)
        if state is not None:
            self.load_state_dict({'identity': ours, **state})

    def _identity(self, encoder: 'DenseEncoder') -> Tensor:
        """What it is trained with: a tensor, so that a checkpoint holds nothing but tensors."""
        facts = {key: encoder.identity[key] for key in ('name', 'weights', 'architecture')}
        content = json.dumps({**facts, 'block': self.block}).encode()
        return torch.frombuffer(bytearray(content), dtype=torch.uint8)

    def _read(self, encoder: 'DenseEncoder', width: int) -> dict[str, Tensor]:
        """The weights of the checkpoint."""
        state, _ = read_state_dict(self._checkpoint, strict=False)  # type: ignore[arg-type]
        state = {key.removeprefix('pooling.'): value for key, value in state.items()}
        known = {*WEIGHTS, *(DECODER if DECODER[0] in state else ())}
        if state.keys() - {'identity'} != known:
            raise ValueError(
                f'{self._checkpoint} holds no learnt pooling: it needs {", ".join(WEIGHTS)}, and '
                f'has {", ".join(sorted(state)[:4])}'
            )
        theirs, ours = state[WEIGHTS[0]].shape[1], encoder.name
        if 'identity' in state:
            return state  # which says the CLIP; it is compared when it is loaded
        if self._clip not in (None, ours):
            raise ValueError(
                f'the pooling in {self._checkpoint} was trained with {self._clip}, not with '
                f'{ours}: use that CLIP, train another pooling with tools/train.py, or set '
                'clip=None of the pooling if both are the same weights'
            )
        if theirs != width:
            raise ValueError(
                f'the pooling in {self._checkpoint} was trained with a CLIP of width {theirs}, '
                f'not with {ours}, whose width is {width}'
            )
        return state

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        """Refuse a state that was trained with another CLIP or block.

        Raises:
            ValueError: It was; the message names both.
        """
        identity = state_dict.get(f'{prefix}identity')
        if identity is not None:
            theirs, ours = (json.loads(bytes(one.tolist())) for one in (identity, self.identity))
            if {**theirs, 'name': None} != {**ours, 'name': None}:
                others = [key for key in ('weights', 'architecture') if theirs[key] != ours[key]]
                raise ValueError(
                    f'the pooling was trained with block {theirs["block"]} of {theirs["name"]}, '
                    f'not with block {ours["block"]} of this {ours["name"]}'
                    f'{", which has other " * bool(others)}{" and ".join(others)}: use that CLIP '
                    'and layer, or train another pooling with tools/train.py'
                )
            # The same except for the CLIP's name, on which nothing depends.
            state_dict = {**state_dict, f'{prefix}identity': self.identity}
        super()._load_from_state_dict(state_dict, prefix, *args)  # type: ignore[arg-type]

    @property
    def digest(self) -> str:
        """Digest of the weights."""
        state = self.state_dict()
        return weights_digest({key: state[key] for key in state if key != 'identity'})

    def embed(self, middle: Tensor, grid: tuple[int, int]) -> Tensor:
        """Compute the map whose cosines are the weights.

        Args:
            middle: ``(B, N, width)``, what the MLP of the block reads.
            grid: ``(h, w)``.

        Returns:
            ``(B, N, channels)``, unit length.
        """
        maps = self.obj_proj(middle.transpose(1, 2).unflatten(2, grid))
        return F.normalize(maps.flatten(2).transpose(1, 2), dim=-1)

    def find_objects(self, middle: Tensor) -> Tensor | None:
        """Logits ``(B, N)``, positive for objects, of :meth:`embed`'s input; None if not learnt."""
        if not self.objectness:
            return None
        unit = F.normalize(middle, dim=-1).transpose(1, 2)[..., None]
        return self.bkg_decoder(unit).flatten(1)

    def forward(
        self, patches: Tensor, grid: tuple[int, int], context: LastBlockContext
    ) -> tuple[Tensor, tuple[int, int], Tensor | None]:
        """Pool the patches.

        Args:
            patches: ``(B, N', D)``, behind the projection, of any length.
            grid: Their grid; they are resized if it is another than the context's (bilinear).
            context: The context of the last block.

        Returns:
            ``(B, N, D)`` not of unit length, their grid, and the logits ``(B, N)`` of objects,
            None if they were not learnt.
        """
        assert context.middle is not None
        if grid != context.grid:
            patches = resize_patches(patches, grid, context.grid)
        unit = self.embed(context.middle, context.grid)
        pooled = average(patches, unit @ unit.transpose(1, 2), self.gamma)
        return pooled, context.grid, self.find_objects(context.middle)


def average(patches: Tensor, similarity: Tensor, gamma: float) -> Tensor:
    """Average patches ``(B, N, D)`` by their similarity ``(B, N, N)``, if it is at least gamma."""
    weight = torch.where(similarity < gamma, 0, similarity)
    return weight @ patches / (weight.sum(dim=-1, keepdim=True) + 1e-6)


def resize_patches(patches: Tensor, grid: tuple[int, int], to: tuple[int, int]) -> Tensor:
    """Resize patches ``(B, N, D)`` of a grid to another one, bilinear."""
    maps = patches.transpose(1, 2).unflatten(2, grid)
    maps = F.interpolate(maps, to, mode='bilinear', align_corners=False)
    return maps.flatten(2).transpose(1, 2)
