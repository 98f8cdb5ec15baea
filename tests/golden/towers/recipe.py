"""Small towers of every family with weights that anyone can make again, and their images.

Weights: each tensor of the state dict is drawn from numpy's PCG64 seeded by
``[SEED, crc32(name)]``, so that it depends on its own name and shape alone.
Written against open_clip 3.3.0, timm 1.0.31, torch 2.14.1, numpy 2.4.
"""

import zlib

import numpy as np
import open_clip
import timm
import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import LayerNorm, VisionTransformer
from timm.models.vitamin import VitCfg, _create_vitamin
from torch import Tensor, nn

SEED = 20261125
DIM = 32  # D, of the embedding
SIZE = {
    'siglip': 64,
    'pe': 64,
    'pe_g': 64,
    'eva02': 64,
    'eva02_e': 56,
    'eva01': 56,
    'mci_b': 64,
    'vit_cls': 64,
    'vit_reg': 64,
    'vit_gap': 64,
    'vitamin': 64,
    'clipa': 64,
    'convnext': 128,
    'convnext_d': 128,
    'rn': 128,
    'fastvit': 128,
}
KINDS = tuple(SIZE)


def fill(module: nn.Module, seed: int = SEED, conv_gain: float = 0.7) -> nn.Module:
    """Give a module its weights: gains near 1, biases small, matrices of about unit gain."""
    state = module.state_dict()
    for name, value in state.items():
        if not value.dtype.is_floating_point:
            continue
        draw = np.random.default_rng([seed, zlib.crc32(name.encode())]).standard_normal(
            tuple(value.shape), dtype=np.float64
        )
        leaf = name.rsplit('.', 1)[-1]
        if leaf == 'running_var':
            new = 1 + 0.1 * np.abs(draw)
        elif leaf == 'running_mean' or leaf.endswith('bias'):
            new = 0.1 * draw
        elif leaf in (
            'pos_embed',
            'positional_embedding',
            'cls_token',
            'class_embedding',
            'reg_token',
            'latent',
            'probe',
            'register_tokens',
            'storage_tokens',
        ):
            new = 0.5 * draw
        elif value.ndim < 2 or leaf in ('gamma', 'gamma_1', 'gamma_2'):
            new = 1 + 0.2 * draw  # gains of norms, layer scales
        else:
            fan_in = int(np.prod(value.shape[1:]))
            if leaf == 'proj' and value.ndim == 2:  # open_clip's (width, D)
                fan_in = value.shape[0]
            new = (1.5 if value.ndim == 2 else conv_gain) * draw * fan_in**-0.5
        state[name] = torch.from_numpy(np.ascontiguousarray(new)).to(value.dtype)
    module.load_state_dict(state)
    return module.eval().requires_grad_(False)


def images(height: int, width: int, count: int = 2, seed: int = SEED) -> Tensor:
    """Normalised images: coloured noise on a coarse grid, so that patches differ."""
    draw = np.random.default_rng([seed, height, width]).standard_normal(
        (count, 3, height // 8, width // 8)
    )
    return torch.from_numpy(draw.repeat(8, 2).repeat(8, 3)).float()


def wrap(trunk: nn.Module, head: nn.Module | None = None, size: int = 64) -> TimmModel:
    """A trunk of timm as open_clip wraps it."""
    model = TimmModel.__new__(TimmModel)
    nn.Module.__init__(model)
    model.image_size = (size, size)
    model.trunk, model.head = trunk, nn.Sequential() if head is None else head
    return model


def build(kind: str) -> nn.Module:
    """The image tower of a kind, as open_clip would hold it in ``clip.visual``."""
    size = SIZE[kind]
    if kind == 'clipa':
        return fill(
            VisionTransformer(
                image_size=size,
                patch_size=16,
                width=64,
                layers=3,
                heads=4,
                mlp_ratio=4.0,
                output_dim=DIM,
                no_ln_pre=True,
                pool_type='avg',
                final_ln_after_pool=True,
                norm_layer=LayerNorm,
            )
        )
    if kind == 'rn':
        return fill(
            ModifiedResNet(layers=(1, 1, 1, 1), output_dim=DIM, heads=8, image_size=size, width=8),
            conv_gain=1.3,
        )
    small = {'img_size': size, 'embed_dim': 64, 'depth': 3, 'num_heads': 4}
    head = None
    if kind == 'siglip':  # open_clip: timm_pool='map', timm_proj='none': width is D
        trunk = timm.create_model(
            'vit_base_patch16_siglip_224', num_classes=0, global_pool='map', **small
        )
    elif kind == 'pe':
        trunk = timm.create_model(
            'vit_pe_core_base_patch16_224',
            num_classes=DIM,
            global_pool='map',
            ref_feat_shape=(4, 4),
            **small,
        )
    elif kind == 'pe_g':
        trunk = timm.create_model(
            'vit_pe_core_base_patch16_224',
            num_classes=DIM,
            global_pool='map',
            ref_feat_shape=(4, 4),
            class_token=False,
            rope_grid_offset=0.0,
            **small,
        )
    elif kind == 'eva02':
        trunk = timm.create_model(
            'eva02_base_patch16_clip_224', num_classes=DIM, global_pool='token', **small
        )
    elif kind == 'eva02_e':
        trunk = timm.create_model(
            'eva02_enormous_patch14_clip_224',
            num_classes=DIM,
            global_pool='token',
            mlp_ratio=2.0,
            **small,
        )
    elif kind == 'eva01':
        trunk = timm.create_model(
            'eva_giant_patch14_224', num_classes=DIM, global_pool='token', mlp_ratio=2.0, **small
        )
    elif kind == 'vit_cls':  # MobileCLIP2-L-14, and OpenAI's as timm has them
        trunk = timm.create_model(
            'vit_base_patch16_clip_224', num_classes=DIM, global_pool='token', **small
        )
    elif kind == 'vit_reg':  # class token and registers: as in TIPS, DINO
        trunk = timm.create_model(
            'vit_base_patch16_clip_224',
            num_classes=DIM,
            global_pool='token',
            reg_tokens=2,
            no_embed_class=True,
            init_values=1.0,
            **small,
        )
    elif kind == 'mci_b':  # MobileCLIP-B: three convolutions in the place of one
        from timm.models.vision_transformer_hybrid import (
            ConvStem,
            _create_vision_transformer_hybrid,
        )

        stem = ConvStem(
            channels=(16, 16, 64),
            stride=(4, 2, 2),
            kernel_size=(4, 2, 2),
            padding=0,
            act_layer=nn.GELU,
        )
        trunk = _create_vision_transformer_hybrid(
            'vit_base_mci_224',
            backbone=stem,
            embed_args={'proj': False},
            no_embed_class=True,
            num_classes=DIM,
            global_pool='token',
            **small,
        )
    elif kind == 'vit_gap':
        trunk = timm.create_model('vit_medium_patch16_gap_256', num_classes=0, **small)
        head = nn.Sequential()
        head.add_module('drop', nn.Dropout(0.0))
        head.add_module('proj', nn.Linear(64, DIM, bias=False))
    elif kind == 'vitamin':
        from timm.models.vitamin import GeGluMlp

        trunk = _create_vitamin(
            'vitamin_small_224',
            num_classes=0,
            mlp_layer=GeGluMlp,
            mlp_ratio=2.0,
            class_token=False,
            global_pool='avg',
            embed_cfg=VitCfg(
                embed_dim=(16, 32, 64), depths=(1, 1, 1), stem_width=16, head_type='1d'
            ),
            **small,
        )
        head = nn.Sequential()
        head.add_module('drop', nn.Dropout(0.0))
        head.add_module('proj', nn.Linear(64, DIM, bias=False))
    elif kind in ('convnext', 'convnext_d'):
        trunk = timm.create_model(
            'convnext_tiny', depths=(1, 1, 1, 1), dims=(16, 24, 32, 48), num_classes=0
        )
        head = nn.Sequential()
        if kind == 'convnext':
            head.add_module('drop', nn.Dropout(0.0))
            head.add_module('proj', nn.Linear(48, DIM, bias=False))
        else:
            from timm.layers import Mlp

            head.add_module('mlp', Mlp(48, 2 * DIM, DIM, drop=(0.0, 0), bias=(True, False)))
    elif kind == 'fastvit':
        trunk = timm.create_model(
            'fastvit_mci0', layers=(1, 1, 1, 1), embed_dims=(16, 32, 32, 64), num_classes=DIM
        )
    else:
        raise ValueError(kind)
    return fill(wrap(trunk, head, size))


def build_clip(kind: str, sigmoid: bool = False) -> open_clip.CustomTextCLIP:
    """A whole CLIP of a kind, with a small text tower over CLIP's own vocabulary."""
    visual = build(kind)
    dim = 64 if kind == 'siglip' else DIM
    clip = open_clip.CustomTextCLIP(
        embed_dim=dim,
        vision_cfg={'image_size': 32, 'patch_size': 16, 'width': 32, 'layers': 1, 'head_width': 32},
        text_cfg={'context_length': 16, 'vocab_size': 49408, 'width': 32, 'heads': 2, 'layers': 1},
        init_logit_bias=-10.0 if sigmoid else None,
    )
    clip.visual = nn.Identity()
    fill(clip)
    clip.visual = visual
    clip.logit_scale.data.fill_(np.log(100.0))
    if sigmoid:
        clip.logit_bias.data.fill_(-10.0)
    return clip.eval().requires_grad_(False)
