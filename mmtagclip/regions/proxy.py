"""A last block whose attention comes from another model's features (ProxyCLIP, ECCV 2024)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from torch import Tensor, nn

from ..clip.block import attention_output
from ..clip.last_blocks import LastBlock, LastBlockContext
from ..clip.loading import read_state_dict
from ..registry import MODELS


@dataclass(frozen=True)
class Affinity:
    """What an affinity source says of a batch of images; one of both, or both.

    Attributes:
        features: ``(B, C', h', w')`` on a grid of the source's own.
        regions: ``(B, H, W)`` integers, the region of each pixel: patches of
            different regions have nothing to do with each other.
    """

    features: Tensor | None = None
    regions: Tensor | None = None


class AffinitySource(nn.Module):
    """Tells which places of an image belong together, by whatever means."""

    def forward(self, pixels: Tensor) -> Affinity:
        """Look at images.

        Args:
            pixels: ``(B, 3, H, W)`` RGB in [0, 1].
        """
        raise NotImplementedError


@MODELS.register_module()
class TimmFeatures(AffinitySource):
    """Patch features of a frozen ViT of timm, such as DINO or DINOv2.

    Images may have any size; sides that the ViT's patch size does not divide
    are enlarged to the next multiple.

    Args:
        model: timm's name (``'vit_base_patch8_224.dino'``).
        pretrained: Whether timm may download the weights.
        checkpoint: File of weights instead, in timm's names.
        kwargs: Further arguments of :func:`timm.create_model`.

    Raises:
        ValueError: Neither or both of ``pretrained`` and ``checkpoint``,
            weights of another architecture, or a model that is no plain ViT.
    """

    vit: Any
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: str,
        pretrained: bool = False,
        checkpoint: str | Path | None = None,
        kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if pretrained == (checkpoint is not None):
            raise ValueError(
                f'say where the weights of {model!r} come from: either '
                'pretrained=True or checkpoint (a file)'
            )
        try:
            self.vit = timm.create_model(
                model, pretrained=pretrained, num_classes=0, dynamic_img_size=True, **(kwargs or {})
            )
        except TypeError as error:
            raise ValueError(
                f'{model!r} is not a ViT that takes images of any size: {error}'
            ) from None
        if checkpoint is not None:
            state, _ = read_state_dict(checkpoint)
            try:
                self.vit.load_state_dict(state)
            except RuntimeError as error:
                raise ValueError(
                    f'{checkpoint} holds weights of another architecture than {model!r}: {error}'
                ) from None
        self.vit.eval().requires_grad_(False)
        self.name = model
        normalisation: dict[str, Any] = self.vit.pretrained_cfg
        for key in ('mean', 'std'):
            self.register_buffer(
                key, torch.tensor(normalisation[key]).view(3, 1, 1), persistent=False
            )

    def extra_repr(self) -> str:
        """The model's name."""
        return self.name

    def forward(self, pixels: Tensor) -> Affinity:
        """Features after the last norm."""
        patch_height, patch_width = self.vit.patch_embed.patch_size
        grid = (-(-pixels.shape[2] // patch_height), -(-pixels.shape[3] // patch_width))
        size = (grid[0] * patch_height, grid[1] * patch_width)
        if size != tuple(pixels.shape[2:]):
            pixels = F.interpolate(pixels, size=size, mode='bicubic', align_corners=False)
        tokens = self.vit.forward_features((pixels.float() - self.mean) / self.std)
        patches = tokens[:, self.vit.num_prefix_tokens :]
        return Affinity(patches.transpose(1, 2).unflatten(2, grid))


@MODELS.register_module()
class ProxyLastBlock(LastBlock):
    """Values gathered by how alike another model finds the places; no residual, no MLP.

    The values are resized to the source's grid. ``softmax(gamma * (S - beta *
    mean(S)))`` over the cosines ``S``, negative ones left out; where only
    regions are given, each patch gathers evenly from its own.

    Args:
        source: Config of the :class:`AffinitySource`.
        beta: See above; published: 1.2.
        gamma: See above; published: 3.
        keep_grid: Whether the patches stay on the source's grid, for direct
            segmentation (published). Attention maps lie on CLIP's own, so that
            DMAR, CWR and CLS-SEG need False: patches are resized back.
    """

    needs_pixels = True

    def __init__(
        self,
        source: ConfigDict | dict | AffinitySource,
        beta: float = 1.2,
        gamma: float = 3.0,
        keep_grid: bool = False,
    ) -> None:
        super().__init__(residual=False, mlp=False)
        self.source: AffinitySource = MODELS.build(source) if isinstance(source, dict) else source
        self.beta = beta
        self.gamma = gamma
        self.keep_grid = keep_grid

    def forward(self, context: LastBlockContext) -> tuple[Tensor, tuple[int, int]]:
        """Run the block; the class token of the result is that of the block's input.

        Raises:
            ValueError: What the source returned does not fit the images.
        """
        if context.pixels is None:
            raise ValueError('ProxyLastBlock needs the pixels of the images')
        affinity = self.source(context.pixels)
        attention, grid = self.attention(affinity, context)
        v = context.qkv[2][:, :, 1:]
        values = v.transpose(2, 3).flatten(1, 2).unflatten(2, context.grid).float()
        values = F.interpolate(values, size=grid, mode='bilinear', align_corners=False)
        y = values.flatten(2) @ attention.transpose(1, 2)
        if not self.keep_grid and grid != context.grid:
            y = F.interpolate(
                y.unflatten(2, grid),
                size=context.grid,
                mode='bilinear',
                align_corners=False,
                antialias=True,
            ).flatten(2)
            grid = context.grid
        y = attention_output(context.block, y.transpose(1, 2)[:, None].to(v.dtype))
        return torch.cat([context.x[:, :1], y], dim=1), grid

    def attention(
        self, affinity: Affinity, context: LastBlockContext
    ) -> tuple[Tensor, tuple[int, int]]:
        """Attention ``(B, N', N')`` float32, whose rows sum to 1, and its grid ``(h', w')``."""
        batch, _, height, width = context.pixels.shape  # type: ignore[union-attr]
        features, regions = affinity.features, affinity.regions
        if features is None and regions is None:
            raise ValueError(f'{type(self.source).__name__} returned neither features nor regions')
        grid = context.grid
        logits = torch.zeros(batch, grid[0] * grid[1], grid[0] * grid[1], device=context.x.device)
        if features is not None:
            self._check_features(features, batch, height, width)
            grid = (features.shape[2], features.shape[3])
            unit = F.normalize(features.float().flatten(2), dim=1)
            cosines = unit.transpose(1, 2) @ unit
            logits = self.gamma * (cosines - self.beta * cosines.mean(dim=(1, 2), keepdim=True))
        # The best of each row stays, even if it is negative (a picture of one colour).
        out = (logits < 0) & (logits < logits.amax(dim=-1, keepdim=True))
        if regions is not None:
            if regions.shape != (batch, height, width):
                raise ValueError(
                    f'{type(self.source).__name__} returned regions '
                    f'{tuple(regions.shape)} for images of {height}x{width} in a '
                    f'batch of {batch}'
                )
            ids = F.interpolate(regions[:, None].float(), size=grid, mode='nearest').flatten(1)
            out = out | (ids[:, :, None] != ids[:, None, :])
            out.diagonal(dim1=1, dim2=2).fill_(False)
        return logits.masked_fill(out, -torch.inf).softmax(dim=-1), grid

    def _check_features(self, features: Tensor, batch: int, height: int, width: int) -> None:
        name = type(self.source).__name__
        if features.ndim != 4 or len(features) != batch:
            raise ValueError(
                f"{name} must return features (B, C', h', w') for a batch of {batch}, "
                f'not {tuple(features.shape)}'
            )
        h, w = features.shape[2:]
        # Cells are square, but for a last row and column that may be rounded away.
        if abs(height / h - width / w) > max(height / h, width / w) * max(1 / h, 1 / w):
            raise ValueError(
                f'{name} returned a grid of {h}x{w} for images of {height}x{width} '
                'pixels, which is of another shape: rows come first, then columns'
            )
