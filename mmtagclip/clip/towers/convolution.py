"""Convolutional towers: timm's ConvNeXt and FastViT (MobileCLIP-S), OpenAI's ResNet."""

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from timm.models.convnext import ConvNeXt
from timm.models.fastvit import FastVit
from torch import Tensor, nn

from ..block import mask_row
from .base import Tower, mean_of, output_size, resize_token_positions, tower


class Convolution(Tower):
    """Base class: the places of the last map are the patches; there are no blocks."""

    lead = 0
    num_blocks = 0

    def embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Compute the last map ``(B, N, width)`` float32, and its grid."""
        x = self.map(images.to(self.dtype)).float()
        return x.flatten(2).transpose(1, 2), (x.shape[2], x.shape[3])

    def map(self, images: Tensor) -> Tensor:
        """Compute the last map ``(B, width, h, w)``."""
        raise NotImplementedError


@tower
class TimmConvolution(Convolution):
    """ConvNeXt or FastViT of timm, pooled by the mean of the map."""

    kind = "timm's ConvNeXt and FastViT"
    pooled_by = 'mean'

    def __init__(self, visual: TimmModel, positions: str | None = None) -> None:
        super().__init__(visual, positions)
        self.trunk: Any = visual.trunk
        self.stride = self.trunk.feature_info[-1]['reduction']
        height, width = visual.image_size
        self.native_grid = (height // self.stride, width // self.stride)
        self.dim = output_size(self.trunk.num_features, self.trunk.head, visual.head)

    @staticmethod
    def accepts(visual: Any) -> bool:
        """See :class:`Tower`."""
        return isinstance(visual, TimmModel) and type(visual.trunk) in (ConvNeXt, FastVit)

    @staticmethod
    def lacks(visual: TimmModel) -> str | None:
        """See :class:`Tower`."""
        head: Any = visual.trunk.head
        if head.global_pool.pool_type != 'avg':
            return f'pools by {head.global_pool.pool_type!r}, which is unsupported'
        return None

    def matrices(self) -> Iterable[nn.Module]:
        """All but the head."""
        return (part for name, part in self.trunk.named_children() if name != 'head')

    def map(self, images: Tensor) -> Tensor:
        """See :class:`Convolution`."""
        return self.trunk.forward_features(images)

    def patches(self, t: Tensor, grid: tuple[int, int]) -> Tensor:
        """Apply the head, whose norm, if it has one, follows the mean, to each place."""
        head = self.trunk.head
        norm = getattr(head, 'norm', None)
        if norm is not None:  # of maps (B, width, h, w)
            t = norm(t.transpose(1, 2)[..., None])[..., 0].transpose(1, 2)
            t = head.pre_logits(t)
        return self.visual.head(head.fc(t))

    def pool(self, t: Tensor, grid: tuple[int, int], seen: Tensor | None = None) -> Tensor:
        """See :class:`Tower`."""
        return self.patches(mean_of(t, seen)[:, None], grid)[:, 0]


@tower
class OpenAIResNet(Convolution):
    """OpenAI's ResNet, pooled by attention.

    Args:
        visual: The tower.
        positions: See :class:`Tower`.
        pool_positions: Whether the pool's positions are added to each patch (FC-CLIP). False for
            MaskCLIP's features.
        pool_mean: Whether the mean of all patches stays among the keys where only some are seen.
            False for FC-CLIP's masked feature.
    """

    kind = "OpenAI's ResNet"
    pooled_by = 'attention'

    def __init__(
        self,
        visual: ModifiedResNet,
        positions: str | None = None,
        pool_positions: bool = False,
        pool_mean: bool = True,
    ) -> None:
        super().__init__(visual, positions)
        self.pool_positions = pool_positions
        self.pool_mean = pool_mean
        self.stride = 32
        side = visual.image_size // 32
        self.native_grid = (side, side)
        self.dim = visual.attnpool.c_proj.out_features

    @staticmethod
    def accepts(visual: Any) -> bool:
        """See :class:`Tower`."""
        return isinstance(visual, ModifiedResNet)

    def matrices(self) -> Iterable[nn.Module]:
        """All but the pool."""
        return (part for name, part in self.visual.named_children() if name != 'attnpool')

    def map(self, images: Tensor) -> Tensor:
        """See :class:`Convolution`."""
        visual = self.visual
        x = visual.stem(images)
        for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
            x = layer(x)
        return x

    def patches(self, t: Tensor, grid: tuple[int, int]) -> Tensor:
        """See :class:`Tower`; each place is read as if the pool attended to it alone."""
        pool = self.visual.attnpool
        if self.pool_positions:
            t = t + self.positional_embedding(grid)[1:]
        return pool.c_proj(pool.v_proj(t))

    def pool(self, t: Tensor, grid: tuple[int, int], seen: Tensor | None = None) -> Tensor:
        """See :class:`Tower`."""
        pool = self.visual.attnpool
        t = torch.cat([t.mean(dim=1, keepdim=True), t], dim=1) + self.positional_embedding(grid)
        shape = (pool.num_heads, -1)
        q, k, v = (
            project(one).unflatten(-1, shape).transpose(1, 2)
            for project, one in ((pool.q_proj, t[:, :1]), (pool.k_proj, t), (pool.v_proj, t))
        )
        row = None
        if seen is not None:
            if not self.pool_mean:
                k, v = k[:, :, 1:], v[:, :, 1:]
            row = mask_row(seen, k)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=row)
        return pool.c_proj(y.transpose(1, 2).flatten(2))[:, 0]

    def positional_embedding(self, grid: tuple[int, int]) -> Tensor:
        """Return the pool's positions ``(1+N, width)`` for the mean and for a patch grid."""
        embedding = self.visual.attnpool.positional_embedding
        return resize_token_positions(embedding, self.native_grid, grid, self.positions)
