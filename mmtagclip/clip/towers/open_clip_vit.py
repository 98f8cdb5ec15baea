"""open_clip's own ViT: OpenAI, LAION, DataComp, DFN, MetaCLIP, CLIPA."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.transformer import QuickGELU, ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn

from ..block import QKV, Block
from .base import Tower, mean_of, resize_token_positions, tower


class OpenCLIPBlock(Block):
    """A block of open_clip.

    Args:
        module: The block.
    """

    def __init__(self, module: ResidualAttentionBlock) -> None:
        self.module = module

    @property
    def qkv_weight(self) -> Tensor:
        """See :class:`Block`."""
        return self.module.attn.in_proj_weight

    def norm(self, x: Tensor) -> Tensor:
        """Apply ``ln_1``."""
        return self.module.ln_1(x)

    def project_qkv(self, y: Tensor) -> QKV:
        """See :class:`Block`."""
        attn = self.module.attn
        qkv = F.linear(y.to(attn.in_proj_weight.dtype), attn.in_proj_weight, attn.in_proj_bias)
        batch, tokens, _ = y.shape
        q, k, v = qkv.view(batch, tokens, 3, attn.num_heads, attn.head_dim).permute(2, 0, 3, 1, 4)
        return q, k, v

    def attention_output(self, y: Tensor) -> Tensor:
        """Apply the output projection and the layer scale."""
        block = self.module
        return block.ls_1(block.attn.out_proj(y.transpose(1, 2).flatten(2)).float())

    def mlp_input(self, x: Tensor) -> Tensor:
        """Apply ``ln_2``."""
        return self.module.ln_2(x)

    def feed_forward(self, x: Tensor) -> Tensor:
        """See :class:`Block`."""
        block = self.module
        mlp: Any = block.mlp
        y = self.mlp_input(x).to(mlp.c_fc.weight.dtype)
        if not isinstance(mlp.gelu, QuickGELU) or torch.is_grad_enabled():
            return block.ls_2(mlp(y).float())
        # x·sigmoid(1.702x) is silu(1.702x)/1.702. In place, it needs no extra memory.
        hidden = F.silu(mlp.c_fc(y).mul_(1.702), inplace=True)
        return block.ls_2(mlp.c_proj(hidden.div_(1.702)).float())

    def first_token(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        """See :class:`Block`; only the first token's query is computed."""
        attn, width = self.module.attn, x.shape[-1]
        weight, bias = attn.in_proj_weight, attn.in_proj_bias
        y = self.norm(x).to(weight.dtype)
        q = F.linear(y[:, :1], weight[:width], bias[:width])
        k, v = F.linear(y, weight[width:], bias[width:]).chunk(2, dim=-1)
        q, k, v = (one.unflatten(-1, (attn.num_heads, -1)).transpose(1, 2) for one in (q, k, v))
        return self.finish_first_token(x, q, k, v, seen)


@tower
class OpenCLIPViT(Tower):
    """open_clip's VisionTransformer, pooled by its class token or by the mean of the patches."""

    kind = "open_clip's ViT"
    lead = 1

    def __init__(self, visual: VisionTransformer, positions: str | None = None) -> None:
        super().__init__(visual, positions)
        self.stride = visual.patch_size[0]
        self.native_grid = (visual.grid_size[0], visual.grid_size[1])
        self.dim = visual.proj.shape[1]
        self._blocks = [OpenCLIPBlock(block) for block in visual.transformer.resblocks]
        self.num_blocks = len(self._blocks)
        self.pooled_by = 'class token' if visual.pool_type == 'tok' else 'mean'

    @staticmethod
    def accepts(visual: Any) -> bool:
        """See :class:`Tower`."""
        return isinstance(visual, VisionTransformer)

    @staticmethod
    def lacks(visual: VisionTransformer) -> str | None:
        """See :class:`Tower`."""
        if visual.attn_pool is not None or visual.pool_type not in ('tok', 'avg'):
            pool = "CoCa's attention" if visual.attn_pool is not None else visual.pool_type
            return f'pools by {pool}, which is unsupported'
        if not all(type(block) is ResidualAttentionBlock for block in visual.transformer.resblocks):
            return (
                'has custom attention blocks (normalised or scaled queries, inner norms); they '
                'are unsupported'
            )
        if visual.patch_size[0] != visual.patch_size[1]:
            return f'has patches of {visual.patch_size}; only square patches are supported'
        return None

    def matrices(self) -> Iterable[nn.Module]:
        """See :class:`Tower`."""
        kinds = nn.Conv2d | nn.Linear | nn.MultiheadAttention
        return (part for part in self.visual.modules() if isinstance(part, kinds))

    def embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """See :class:`Tower`."""
        visual = self.visual
        x = visual.conv1(images.to(self.dtype)).float()
        grid = (x.shape[2], x.shape[3])
        x = x.flatten(2).transpose(1, 2)
        class_token = visual.class_embedding.expand(x.shape[0], 1, -1)
        x = torch.cat([class_token, x], dim=1) + self.positional_embedding(grid)
        return visual.ln_pre(x), grid

    def positional_embedding(self, grid: tuple[int, int]) -> Tensor:
        """Return the positions ``(1+N, width)`` of a patch grid."""
        embedding = self.visual.positional_embedding
        return resize_token_positions(embedding, self.native_grid, grid, self.positions)

    def blocks(self, grid: tuple[int, int]) -> Sequence[Block]:
        """See :class:`Tower`; the blocks do not depend on the grid."""
        return self._blocks

    def norm(self, x: Tensor) -> Tensor:
        """Apply ``ln_post``, unless it follows the mean."""
        return x if self.visual.final_ln_after_pool else self.visual.ln_post(x)

    def patches(self, t: Tensor, grid: tuple[int, int]) -> Tensor:
        """See :class:`Tower`."""
        return self._project(t)

    def _project(self, t: Tensor) -> Tensor:
        if self.visual.final_ln_after_pool:
            t = self.visual.ln_post(t)
        return t @ self.visual.proj

    def pool(self, t: Tensor, grid: tuple[int, int], seen: Tensor | None = None) -> Tensor:
        """See :class:`Tower`."""
        pooled = t[:, 0] if self.pooled_by == 'class token' else mean_of(t[:, 1:], seen)
        return self._project(pooled[:, None])[:, 0]

    def read(self, t: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """See :class:`Tower`."""
        if self.pooled_by != 'class token':
            return super().read(t, grid)
        tokens = self._project(t)
        return tokens[:, 1:], tokens[:, 0]

    def row_mask(self, seen: Tensor | None) -> Tensor | None:
        """See :class:`Tower`."""
        return seen if self.pooled_by == 'class token' else None

    def global_feature(self, x: Tensor, grid: tuple[int, int], seen: Tensor | None) -> Tensor:
        """See :class:`Tower`; plain CLIP discards the last block's patches: they are not run."""
        if self.pooled_by != 'class token':
            return super().global_feature(x, grid, seen)
        return self.pool(self.norm(self._blocks[-1].first_token(x, seen)), grid)
