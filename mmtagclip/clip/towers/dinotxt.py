"""The image tower of dino.txt: DINOv3, with blocks that were trained beside the text tower."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from timm.models.eva import EvaBlock
from torch import Tensor, nn

from ..block import Block
from .base import Tower, mean_of, tower
from .timm_vit import TimmBlock, TimmViT, Unprojected


class DINOTxtVisual(nn.Module):
    """DINOv3 of timm, then blocks without rotary positions, and a norm.

    Args:
        name: timm's name of the backbone.
        head_blocks: Number of blocks behind it.
        options: Passed to :func:`timm.create_model`, such as other sizes.

    Raises:
        ValueError: timm has no such backbone.
    """

    def __init__(self, name: str, head_blocks: int = 2, **options: Any) -> None:
        super().__init__()
        self.backbone = Unprojected(name, **options)
        trunk: Any = self.backbone.trunk
        width = trunk.embed_dim
        self.blocks = nn.ModuleList(
            EvaBlock(
                width,
                trunk.blocks[0].attn.num_heads,
                qkv_bias=False,
                mlp_ratio=int(8 * width / 3) / width,
                swiglu_mlp=True,
                swiglu_align_to=64,
                init_values=1e-5,
                norm_layer=nn.LayerNorm,
            )
            for _ in range(head_blocks)
        )
        self.ln_final = nn.LayerNorm(width)

    def forward(self, images: Tensor) -> Tensor:
        """Compute the global features ``(B, 2 width)``."""
        trunk: Any = self.backbone.trunk
        x = trunk.forward_features(images)
        for block in self.blocks:
            x = block(x)
        x = self.ln_final(x)
        return torch.cat([x[:, 0], x[:, trunk.num_prefix_tokens :].mean(dim=1)], dim=1)


class LastOfBackbone(TimmBlock):
    """The last block of the backbone, with the backbone's norm behind it.

    Args:
        module: The block.
        rope: See :class:`TimmBlock`.
        after: The norm.
    """

    def __init__(self, module: Any, rope: Tensor | None, after: Callable[[Tensor], Tensor]) -> None:
        super().__init__(module, rope)
        self.after = after

    def after_attention(self, x: Tensor) -> Tensor:
        """See :class:`Block`."""
        return self.after(super().after_attention(x))


@tower
class DINOTxt(Tower):
    """Reads dino.txt. Its global feature is the class token, then the mean of the patches.

    A patch has half of its size, and is compared with the second half of a text feature.
    """

    kind = 'dino.txt'
    pooled_by = 'class token and mean'

    def __init__(self, visual: DINOTxtVisual, positions: str | None = None) -> None:
        super().__init__(visual, positions)
        self._backbone = TimmViT(visual.backbone)
        self.stride = self._backbone.stride
        self.native_grid = self._backbone.native_grid
        self.lead = self._backbone.lead
        self.num_blocks = self._backbone.num_blocks + len(visual.blocks)
        self.dim = 2 * self._backbone.dim

    @staticmethod
    def accepts(visual: Any) -> bool:
        """See :class:`Tower`."""
        return isinstance(visual, DINOTxtVisual)

    def matrices(self) -> Iterable[nn.Module]:
        """See :class:`Tower`."""
        yield from self._backbone.matrices()
        yield from (part for part in self.visual.blocks.modules() if isinstance(part, nn.Linear))

    def embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """See :class:`Tower`."""
        return self._backbone.embed(images)

    def blocks(self, grid: tuple[int, int]) -> Sequence[Block]:
        """See :class:`Tower`."""
        *most, last = self._backbone.blocks(grid)
        assert isinstance(last, TimmBlock)
        last = LastOfBackbone(last.module, last.rope, self._backbone.norm)
        return [*most, last, *(TimmBlock(block) for block in self.visual.blocks)]

    def norm(self, x: Tensor) -> Tensor:
        """See :class:`Tower`."""
        return self.visual.ln_final(x)

    def patches(self, t: Tensor, grid: tuple[int, int]) -> Tensor:
        """See :class:`Tower`."""
        return t

    def pool(self, t: Tensor, grid: tuple[int, int], seen: Tensor | None = None) -> Tensor:
        """See :class:`Tower`."""
        return torch.cat([t[:, 0], mean_of(t[:, self.lead :], seen)], dim=1)

    def patch_text(self, text: Tensor) -> Tensor:
        """See :class:`Tower`."""
        return F.normalize(text[..., text.shape[-1] // 2 :], dim=-1)
