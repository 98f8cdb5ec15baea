"""timm's ViT and Eva: SigLIP, PE-Core, EVA, MobileCLIP-B, ViTamin."""

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import timm
import torch
import torch.nn.functional as F
from open_clip.timm_model import TimmModel
from timm.layers import Attention, AttentionRope, HybridEmbed, PatchEmbed, apply_rot_embed_cat
from timm.models.eva import Eva, EvaAttention, EvaBlock, EvaBlockPostNorm
from timm.models.vision_transformer import Block as ViTBlock
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from ..block import QKV, Block, mask_row
from .base import Tower, mean_of, output_size, resize_token_positions, tower

POOLS = {'token': 'class token', 'avg': 'mean', 'map': 'attention'}


class Unprojected(TimmModel):
    """A tower of timm that is not among open_clip's, as open_clip wraps its own.

    Args:
        name: timm's name of the tower.
        options: Passed to :func:`timm.create_model`, such as other sizes.

    Raises:
        ValueError: timm has no such tower.
    """

    def __init__(self, name: str, **options: Any) -> None:
        nn.Module.__init__(self)
        if not timm.is_model(name):
            raise ValueError(f'timm {timm.__version__} has no {name}: install a newer one')
        trunk: Any = timm.create_model(name, num_classes=0, global_pool='token', **options)
        self.trunk = trunk
        self.head = nn.Sequential()
        self.image_size = trunk.patch_embed.img_size


class TimmBlock(Block):
    """A block of timm's ViT or Eva, bound to a grid by its rotary positions.

    Args:
        module: The block.
        rope: ``(N, 2 d)`` sines and cosines, or None.
    """

    def __init__(self, module: Any, rope: Tensor | None = None) -> None:
        self.module = module
        self.rope = rope
        self.post_norm = isinstance(module, EvaBlockPostNorm)
        self.is_eva = isinstance(module, EvaBlock)

    def norm(self, x: Tensor) -> Tensor:
        """Apply ``norm1``, unless it follows the attention."""
        return x if self.post_norm else self.module.norm1(x)

    def project_qkv(self, y: Tensor) -> QKV:
        """See :class:`Block`."""
        attn = self.module.attn
        shape = (attn.num_heads, -1)
        y = y.to(attn.proj.weight.dtype)
        if attn.qkv is None:
            q, k, v = (
                project(y).unflatten(-1, shape).transpose(1, 2)
                for project in (attn.q_proj, attn.k_proj, attn.v_proj)
            )
        else:
            bias = attn.qkv.bias
            if getattr(attn, 'q_bias', None) is not None:
                bias = torch.cat([attn.q_bias, attn.k_bias, attn.v_bias]).to(y.dtype)
            qkv = F.linear(y, attn.qkv.weight, bias)
            q, k, v = qkv.unflatten(-1, (3, *shape)).permute(2, 0, 3, 1, 4)
        q, k = attn.q_norm(q), attn.k_norm(k)
        if self.rope is not None:
            q, k = self.rotate(q), self.rotate(k)
        return q, k, v

    def rotate(self, x: Tensor) -> Tensor:
        """Apply the rotary positions to the patches among ``(B, heads, P+N, d)``."""
        assert self.rope is not None
        lead = x.shape[2] - len(self.rope)
        half = self.module.attn.rotate_half
        patches = apply_rot_embed_cat(x[:, :, lead:].float(), self.rope, half=half)
        return torch.cat([x[:, :, :lead], patches.to(x.dtype)], dim=2)

    def attention_output(self, y: Tensor) -> Tensor:
        """Apply inner norm, projection, and layer scale or norm."""
        block, attn = self.module, self.module.attn
        y = attn.norm(y.transpose(1, 2).flatten(2).float())
        y = attn.proj(y.to(attn.proj.weight.dtype)).float()
        if self.post_norm:
            return block.norm1(y)
        if self.is_eva:
            return y if block.gamma_1 is None else block.gamma_1 * y
        return block.ls1(y)

    def mlp_input(self, x: Tensor) -> Tensor:
        """Apply ``norm2``, unless it follows the MLP."""
        return x if self.post_norm else self.module.norm2(x)

    def feed_forward(self, x: Tensor) -> Tensor:
        """See :class:`Block`."""
        block = self.module
        y = self._mlp(self.mlp_input(x))
        if self.post_norm:
            return block.norm2(y)
        if self.is_eva:
            return y if block.gamma_2 is None else block.gamma_2 * y
        return block.ls2(y)

    def _mlp(self, y: Tensor) -> Tensor:
        """Apply the MLP, whose inner norm, if it has one, stays float32."""
        dtype = self.module.attn.proj.weight.dtype
        if dtype == torch.float32:
            return self.module.mlp(y)
        # Autocast passes from the narrow products to the norm and back.
        with torch.autocast(y.device.type, dtype=dtype):
            return self.module.mlp(y).float()


@tower
class TimmViT(Tower):
    """timm's VisionTransformer or Eva, pooled by class token, mean or attention.

    Args:
        visual: The tower, as open_clip wraps it.
        positions: See :class:`Tower`.
        pool_mlp: Whether patches pass the MLP of an attention pool, as what it pools does. False
            for TextRegion's features.
        global_token: Which token in front of the patches is the class token; 1 for the second
            one of TIPS, a register.
    """

    kind = "timm's ViT and Eva"
    default_positions = 'bicubic_antialias'

    def __init__(
        self,
        visual: TimmModel,
        positions: str | None = None,
        pool_mlp: bool = True,
        global_token: int = 0,
    ) -> None:
        super().__init__(visual, positions)
        self.trunk: Any = visual.trunk
        self.pool_mlp = pool_mlp
        embed = self.trunk.patch_embed
        self.stride = embed.feat_ratio()
        self.native_grid = (embed.grid_size[0], embed.grid_size[1])
        self.lead = self.trunk.num_prefix_tokens
        if global_token not in range(max(1, self.lead)):
            raise ValueError(
                f'global_token must be in 0 to {self.lead - 1}, not {global_token}: there are '
                f'{self.lead} tokens in front of the patches'
            )
        self.global_token = global_token
        self.num_blocks = len(self.trunk.blocks)
        self.pooled_by = POOLS[self.trunk.global_pool]
        self.dim = output_size(self.trunk.num_features, self.trunk.head, visual.head)
        self._bound: dict[tuple[tuple[int, int], torch.device], list[TimmBlock]] = {}

    @staticmethod
    def accepts(visual: Any) -> bool:
        """See :class:`Tower`."""
        return isinstance(visual, TimmModel) and type(visual.trunk) in (VisionTransformer, Eva)

    @staticmethod
    def lacks(visual: TimmModel) -> str | None:
        """See :class:`Tower`."""
        trunk: Any = visual.trunk
        if trunk.global_pool not in POOLS or getattr(trunk, 'pool_include_prefix', False):
            return f'pools by {trunk.global_pool!r}, which is unsupported'
        for block in trunk.blocks:
            if type(block) not in (ViTBlock, EvaBlock, EvaBlockPostNorm):
                return f'has blocks of the kind {type(block).__name__}, which are unsupported'
            attn = block.attn
            if type(attn) not in (Attention, EvaAttention, AttentionRope) or attn.gate is not None:
                return f'has attention of the kind {type(attn).__name__}, which is unsupported'
            if getattr(attn, 'num_kv_groups', 1) != 1:
                return 'shares keys among heads, which is unsupported'
        if getattr(trunk, 'rope_mixed', False):
            return 'has rotary positions of its own in each block, which are unsupported'
        if type(trunk.patch_embed) not in (PatchEmbed, HybridEmbed):
            return f'embeds by {type(trunk.patch_embed).__name__}, which is unsupported'
        pool = trunk.attn_pool
        if pool is not None and (pool.pos_embed is not None or pool.latent_len != 1):
            return 'has an attention pool with positions or several queries: unsupported'
        return None

    def matrices(self) -> Iterable[nn.Module]:
        """Products of the embedding and of the blocks; convolutions before it stay float32."""
        embed = self.trunk.patch_embed
        parts = [*embed.proj.modules()] if not isinstance(embed, HybridEmbed) else []
        parts += [part for block in self.trunk.blocks for part in block.modules()]
        return (part for part in parts if isinstance(part, nn.Conv2d | nn.Linear))

    def embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """See :class:`Tower`."""
        trunk = self.trunk
        embed = trunk.patch_embed
        if isinstance(embed, HybridEmbed):
            x = embed.proj(embed.backbone(images))
        else:
            x = embed.proj(images.to(embed.proj.weight.dtype)).float()
        grid = (x.shape[2], x.shape[3])
        x = x.flatten(2).transpose(1, 2)
        if not isinstance(embed, HybridEmbed):
            x = embed.norm(x)
        lead = [
            token.expand(len(x), -1, -1)
            for token in (trunk.cls_token, trunk.reg_token)
            if token is not None
        ]
        if trunk.pos_embed is None:
            x = torch.cat([*lead, x], dim=1)
        else:
            embedding = resize_token_positions(
                trunk.pos_embed[0], self.native_grid, grid, self.positions
            )
            if trunk.no_embed_class:
                x = torch.cat([*lead, x + embedding], dim=1)
            else:
                x = torch.cat([*lead, x], dim=1) + embedding
        return trunk.norm_pre(x), grid

    def blocks(self, grid: tuple[int, int]) -> Sequence[Block]:
        """See :class:`Tower`."""
        key = grid, self.trunk.blocks[0].attn.proj.weight.device
        if key not in self._bound:
            if len(self._bound) >= 16:  # only a few sizes come back again and again
                self._bound.clear()
            rope = self._rope(grid)
            self._bound[key] = [TimmBlock(block, rope) for block in self.trunk.blocks]
        return self._bound[key]

    def _rope(self, grid: tuple[int, int]) -> Tensor | None:
        """Rotary positions ``(N, 2 d)`` of a grid, which span the reference grid."""
        rope = getattr(self.trunk, 'rope', None)
        if rope is None:
            return None
        if rope.feat_shape is None:
            return rope.get_embed(shape=grid)
        # `get_embed` of a tower of fixed size ignores the shape that it is given.
        rope = copy.deepcopy(rope)
        rope.update_feat_shape(grid)
        return rope.get_embed()

    def norm(self, x: Tensor) -> Tensor:
        """Apply timm's ``norm``, which is the identity if the norm follows the pool."""
        return self.trunk.norm(x)

    def _project(self, t: Tensor) -> Tensor:
        return self.visual.head(self.trunk.head(self.trunk.fc_norm(t)))

    def patches(self, t: Tensor, grid: tuple[int, int]) -> Tensor:
        """See :class:`Tower`; an attention pool is read as if it saw only this token."""
        pool = self.trunk.attn_pool
        if pool is not None:
            width = pool.kv.out_features // 2
            bias = None if pool.kv.bias is None else pool.kv.bias[width:]
            t = pool.proj(F.linear(t, pool.kv.weight[width:], bias))
            if self.pool_mlp:
                t = t + pool.mlp(pool.norm(t))
        return self._project(t)

    def pool(self, t: Tensor, grid: tuple[int, int], seen: Tensor | None = None) -> Tensor:
        """See :class:`Tower`."""
        if self.pooled_by == 'class token':
            return self._project(t[:, self.global_token])
        if self.pooled_by == 'mean':
            return self._project(mean_of(t[:, self.lead :], seen))
        pool = self.trunk.attn_pool
        if not isinstance(self.trunk, Eva):  # PE's class token is among the keys
            t = t[:, self.lead :]
        shape = (pool.num_heads, -1)
        q = pool.q(pool.latent).expand(len(t), -1, -1).unflatten(-1, shape).transpose(1, 2)
        k, v = pool.kv(t).unflatten(-1, (2, *shape)).permute(2, 0, 3, 1, 4)
        q, k = pool.q_norm(q), pool.k_norm(k)
        row = None if seen is None else mask_row(seen, k)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=row)
        y = pool.proj(y.transpose(1, 2).flatten(2))
        return self._project((y + pool.mlp(pool.norm(y)))[:, 0])

    def row_mask(self, seen: Tensor | None) -> Tensor | None:
        """See :class:`Tower`; PE's class token is among the keys of its pool."""
        if seen is not None and self.global_token:
            raise ValueError('CWR masks the row of the class token: leave out global_token')
        among_keys = self.pooled_by == 'attention' and self.lead and isinstance(self.trunk, Eva)
        return seen if self.pooled_by == 'class token' or among_keys else None

    def global_feature(self, x: Tensor, grid: tuple[int, int], seen: Tensor | None) -> Tensor:
        """See :class:`Tower`."""
        if self.pooled_by != 'class token' or self.global_token:
            return super().global_feature(x, grid, seen)
        return self.pool(self.norm(self.blocks(grid)[-1].first_token(x, seen)), grid)
