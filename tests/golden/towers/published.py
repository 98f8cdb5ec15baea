"""Small TIPS and dino.txt: weights by their publishers' names, filled by the recipe, and models."""

import torch
from open_clip.transformer import TextTransformer

from mmtagclip.clip.published import TIPSText, convert_dinotxt, convert_tips, put_together
from mmtagclip.clip.towers.dinotxt import DINOTxtVisual
from mmtagclip.clip.towers.tips import TIPSVisual
from tests.golden.towers import recipe

KINDS = ('tips', 'dinotxt')
WIDTH, HEADS, DEPTH = 64, 4, 3
SMALL = {'embed_dim': WIDTH, 'depth': DEPTH, 'num_heads': HEADS}
WORDS = 40  # of TIPS's small vocabulary


class Named(torch.nn.Module):
    """Tensors by their published names, for the recipe to fill."""

    def __init__(self, shapes):
        super().__init__()
        self.shapes = shapes

    def state_dict(self):
        return {key: torch.zeros(shape) for key, shape in self.shapes.items()}

    def load_state_dict(self, state):
        self.state = state


def filled(shapes):
    return recipe.fill(Named(shapes)).state


def linear(name, out, width, bias=True):
    return {f'{name}.weight': (out, width), **({f'{name}.bias': (out,)} if bias else {})}


def norm(name, width=WIDTH):
    return {f'{name}.weight': (width,), f'{name}.bias': (width,)}


def block(name, mlp, qkv_bias=True):
    """A block of DINOv2 and later."""
    return {
        **norm(f'{name}.norm1'),
        **linear(f'{name}.attn.qkv', 3 * WIDTH, WIDTH, qkv_bias),
        **linear(f'{name}.attn.proj', WIDTH, WIDTH),
        f'{name}.ls1.gamma': (WIDTH,),
        **norm(f'{name}.norm2'),
        **{
            key: shape
            for one in mlp
            for key, shape in linear(f'{name}.mlp.{one[0]}', *one[1:]).items()
        },
        f'{name}.ls2.gamma': (WIDTH,),
    }


def vit(patch):
    """What DINOv2 and DINOv3 have in common."""
    mlp = (('fc1', 4 * WIDTH, WIDTH), ('fc2', WIDTH, 4 * WIDTH))
    shapes = {'cls_token': (1, 1, WIDTH), 'mask_token': (1, WIDTH), **norm('norm')}
    shapes |= {'patch_embed.proj.weight': (WIDTH, 3, patch, patch)}
    shapes |= {'patch_embed.proj.bias': (WIDTH,)}
    for index in range(DEPTH):
        shapes |= block(f'blocks.{index}', mlp)
    return shapes


def tips_vision():
    return filled({**vit(14), 'register_tokens': (1, 1, WIDTH), 'pos_embed': (1, 17, WIDTH)})


def tips_text():
    shapes = {'token_embedding.weight': (WORDS, WIDTH), **norm('ln_final')}
    for index in range(DEPTH):
        name = f'transformer.resblocks.{index}'
        shapes |= {
            **norm(f'{name}.ln_1'),
            f'{name}.attn.in_proj_weight': (3 * WIDTH, WIDTH),
            f'{name}.attn.in_proj_bias': (3 * WIDTH,),
            **linear(f'{name}.attn.out_proj', WIDTH, WIDTH),
            **norm(f'{name}.ln_2'),
            **linear(f'{name}.mlp.c_fc', 4 * WIDTH, WIDTH),
            **linear(f'{name}.mlp.c_proj', WIDTH, 4 * WIDTH),
        }
    return {**filled(shapes), 'temperature': torch.tensor(0.05)}


def dinov3():
    """With what timm ignores, too."""
    state = filled({**vit(16), 'storage_tokens': (1, 4, WIDTH)})
    for index in range(DEPTH):
        name = f'blocks.{index}.attn.qkv.bias'
        state[name][WIDTH : 2 * WIDTH] = 0
        state[f'{name}_mask'] = torch.ones(3 * WIDTH)
    return {**state, 'rope_embed.periods': torch.ones(4)}


def dinotxt_rest():
    """The blocks behind the backbone, by the names of the golden arrays below; and the text."""
    mlp = (('w1', 192, WIDTH), ('w2', 192, WIDTH), ('w3', WIDTH, 192))
    shapes = norm('head.ln_final')
    for index in range(2):
        shapes |= block(f'head.blocks.{index}', mlp, qkv_bias=False)
    text = {
        'backbone.token_embedding.weight': (49408, 32),
        'backbone.positional_embedding': (16, 32),
    }
    text |= {**norm('backbone.ln_final', 32), 'head.linear_projection.weight': (2 * WIDTH, 32)}
    for index in range(2):
        name = f'backbone.blocks.{index}'
        text |= {
            **norm(f'{name}.attention_norm', 32),
            f'{name}.attention.qkv.weight': (96, 32),
            **linear(f'{name}.attention.proj', 32, 32),
            **norm(f'{name}.ffn_norm', 32),
            **linear(f'{name}.feed_forward.fc1', 128, 32),
            **linear(f'{name}.feed_forward.fc2', 32, 128),
        }
    return {
        **{f'visual_model.{key}': value for key, value in filled(shapes).items()},
        **{f'text_model.{key}': value for key, value in filled(text).items()},
        'logit_scale': torch.full((1,), 4.0),
    }


def untrained(kind):
    if kind == 'tips':
        visual = TIPSVisual('vit_base_patch14_reg1_tipsv2', img_size=56, **SMALL)
        return put_together(visual, TIPSText(WIDTH, HEADS, DEPTH, 4 * WIDTH, WORDS, 32))
    visual = DINOTxtVisual('vit_large_patch16_dinov3_qkvb', img_size=64, **SMALL)
    text = TextTransformer(context_length=16, width=32, heads=2, layers=2, output_dim=2 * WIDTH)
    return put_together(visual, text)


def build_clip(kind):
    """A whole small model, loaded from its publisher's names."""
    clip = untrained(kind)
    if kind == 'tips':
        state = convert_tips({**tips_vision(), **tips_text()}, clip, None)
    else:
        state = convert_dinotxt({**dinov3(), **dinotxt_rest()}, clip, None)
    clip.load_state_dict(state)
    return clip.eval().requires_grad_(False)
