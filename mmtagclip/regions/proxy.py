"""A last block whose attention comes from another model's features (ProxyCLIP, ECCV 2024)."""

import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from torch import Tensor

from ..clip.last_blocks import LastBlock, LastBlockContext
from ..registry import MODELS
from .features import Affinity, AffinitySource


@MODELS.register_module()
class ProxyLastBlock(LastBlock):
    """Values weighted by how similar another model finds the places; no residual, no MLP.

    The values are resized to the source's grid. The weights are ``softmax(gamma
    * (S - beta * mean(S)))`` over the cosines ``S``, without negative ones. If
    the source returns only regions, each patch takes the mean of its region.

    Args:
        source: Config of the :class:`AffinitySource`.
        beta: Factor of the mean in that formula; published: 1.2.
        gamma: Factor in that formula; published: 3.
        keep_grid: Whether the patches stay on the source's grid, for direct
            segmentation (published). Attention maps are on CLIP's own grid, so
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

    def extra_repr(self) -> str:
        """The source and the options, as printed."""
        source = f'{type(self.source).__name__}({self.source.extra_repr()})'
        return f'source={source}, {super().extra_repr()}'

    def forward(self, context: LastBlockContext) -> tuple[Tensor, tuple[int, int]]:
        """Run the block; the class token of the result is that of the block's input.

        Raises:
            ValueError: The result of the source does not fit the images.
        """
        if context.pixels is None:
            raise ValueError('ProxyLastBlock needs the pixels of the images')
        return self.weigh(context, self.source(context.pixels))

    def weigh(
        self, context: LastBlockContext, affinity: Affinity, mean: Tensor | None = None
    ) -> tuple[Tensor, tuple[int, int]]:
        """Run the block with an affinity that is already known.

        Args:
            context: As in :meth:`forward`.
            affinity: What the source returned for the context's pixels.
            mean: Mean of the cosines ``S``, such as that of all windows of an image; of each
                image of the batch if None.
        """
        attention, grid = self.attention(affinity, context, mean)
        v = context.qkv[2][:, :, context.lead :]
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
        y = context.block.attention_output(y.transpose(1, 2)[:, None].to(v.dtype))
        return torch.cat([context.x[:, : context.lead], y], dim=1), grid

    def attention(
        self, affinity: Affinity, context: LastBlockContext, mean: Tensor | None = None
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
            if mean is None:
                mean = cosines.mean(dim=(1, 2), keepdim=True)
            logits = self.gamma * (cosines - self.beta * mean)
        # The best of each row stays, even if it is negative (an image of one colour).
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
                'pixels, which has another shape: rows come first, then columns'
            )
