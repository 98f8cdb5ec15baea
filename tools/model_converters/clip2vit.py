r"""Write a CLIP's image tower as a checkpoint of MMPretrain's VisionTransformer.

    python tools/model_converters/clip2vit.py ViT-B-16-quickgelu --pretrained openai \
        --out work_dirs/vit-base-p16_openai.pth

The command prints the config of the backbone, with ``init_cfg=dict(type='Pretrained',
checkpoint=...)`` to start a student from it. MMSegmentation uses the same backbone as
``mmpretrain.VisionTransformer``. CLIP's projection is not converted: the class token is CLIP's
before the projection. With ``interpolate_mode='bilinear'``, the positions at other sizes are those
that TagCLIP uses.
"""

import argparse
import io
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from open_clip.transformer import QuickGELU, VisionTransformer
from torch import Tensor, nn

from mmtagclip.clip import load_clip
from mmtagclip.files import write_whole


def convert(visual: Any) -> dict[str, Tensor]:
    """Weights of an open_clip image tower under the names of MMPretrain's VisionTransformer.

    A layer scale is multiplied into the matrix that it scales.

    Args:
        visual: open_clip's VisionTransformer with a class token.

    Returns:
        The state dict.
    """
    state = {
        'cls_token': visual.class_embedding[None, None],
        'pos_embed': visual.positional_embedding[None],
        'patch_embed.projection.weight': visual.conv1.weight,
        **_named('ln1', visual.ln_post),
    }
    if isinstance(visual.ln_pre, nn.Identity):  # then MMPretrain's convolution has a bias
        state['patch_embed.projection.bias'] = torch.zeros(len(visual.conv1.weight))
    else:
        state.update(_named('pre_norm', visual.ln_pre))
    for index, block in enumerate(visual.transformer.resblocks):
        layer = f'layers.{index}'
        state.update(
            {
                f'{layer}.attn.qkv.weight': block.attn.in_proj_weight,
                f'{layer}.attn.qkv.bias': block.attn.in_proj_bias,
                **_named(f'{layer}.ln1', block.ln_1),
                **_named(f'{layer}.attn.proj', block.attn.out_proj, block.ls_1),
                **_named(f'{layer}.ln2', block.ln_2),
                **_named(f'{layer}.ffn.layers.0.0', block.mlp.c_fc),
                **_named(f'{layer}.ffn.layers.1', block.mlp.c_proj, block.ls_2),
            }
        )
    return {name: value.detach().clone() for name, value in state.items()}


def backbone(visual: Any) -> dict[str, Any]:
    """Config of the VisionTransformer that the weights fit."""
    first = visual.transformer.resblocks[0]
    quick = isinstance(first.mlp.gelu, QuickGELU)
    width = first.attn.embed_dim
    return {
        'type': 'mmpretrain.VisionTransformer',
        'arch': {
            'embed_dims': width,
            'num_layers': len(visual.transformer.resblocks),
            'num_heads': first.attn.num_heads,
            'feedforward_channels': first.mlp.c_fc.out_features,
        },
        'img_size': tuple(visual.image_size),
        'patch_size': visual.patch_size[0],
        'pre_norm': not isinstance(visual.ln_pre, nn.Identity),
        'norm_cfg': {'type': 'LN', 'eps': visual.ln_post.eps},
        'interpolate_mode': 'bilinear',
        'layer_cfgs': {'act_cfg': {'type': 'mmpretrain.QuickGELU' if quick else 'GELU'}},
    }


def _named(name: str, layer: nn.Module, scale: nn.Module | None = None) -> dict[str, Tensor]:
    """Weight and bias of a layer, times the layer scale that follows it."""
    weight, bias = layer.weight, layer.bias
    if scale is not None and not isinstance(scale, nn.Identity):
        weight, bias = scale.gamma[:, None] * weight, scale.gamma * bias
    return {f'{name}.weight': weight, f'{name}.bias': bias}


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('model', help='architecture of open_clip, local-dir:PATH or hf-hub:NAME')
    parser.add_argument('--pretrained', help='tag of open_clip; may download the weights')
    parser.add_argument('--checkpoint', type=Path, help='file of weights')
    parser.add_argument(
        '--quick-gelu',
        action=argparse.BooleanOptionalAction,
        default=None,
        help='whether the checkpoint was trained with QuickGELU, if its file does not show it',
    )
    parser.add_argument('--out', type=Path, required=True, help='checkpoint to write (.pth)')
    args = parser.parse_args()
    visual: Any = load_clip(
        args.model, args.pretrained, args.checkpoint, args.quick_gelu
    ).model.visual
    if not isinstance(visual, VisionTransformer) or visual.pool_type != 'tok':
        raise ValueError(
            f"only open_clip's ViT with a class token is converted, not {type(visual).__name__}"
        )
    content = io.BytesIO()
    torch.save({'state_dict': convert(visual)}, content)
    write_whole(args.out, content.getvalue())
    config = {**backbone(visual), 'init_cfg': {'type': 'Pretrained', 'checkpoint': str(args.out)}}
    print(Config({'backbone': config}).pretty_text)


if __name__ == '__main__':
    main()
