"""Deterministic stand-ins for the models and maps that region-based segmentation needs.

Values come from ``numpy.random.RandomState``, whose stream NumPy keeps frozen. They are random:
good for checking numbers, useless for recognising anything. CLIP's weights and the pictures are
those of ``weights.py`` in the golden folder of the encoders.
"""

import numpy as np


def _normal(rng, *shape, std):
    return (rng.standard_normal(shape) * std).astype(np.float32)


def _linear(state, rng, name, out, into, gain=1.0, bias_std=0.02, bias=True):
    state[f'{name}.weight'] = _normal(rng, out, into, std=gain * into**-0.5)
    if bias:
        state[f'{name}.bias'] = _normal(rng, out, std=bias_std)


def _norm(state, rng, name, width):
    state[f'{name}.weight'] = 1 + _normal(rng, width, std=0.1)
    state[f'{name}.bias'] = _normal(rng, width, std=0.02)


def _conv(state, rng, name, *shape, gain=1.0, bias=True):
    state[f'{name}.weight'] = _normal(rng, *shape, std=gain * np.prod(shape[1:]) ** -0.5)
    if bias:
        state[f'{name}.bias'] = _normal(rng, shape[0], std=0.02)


def dino_state_dict(width=64, depth=3, patch=16, grid=14, seed=11, positions=0.3):
    """A plain ViT in DINO's names, which are timm's too; heads are ``width // 32``, eps 1e-6."""
    rng = np.random.RandomState(seed)
    state = {
        'cls_token': _normal(rng, 1, 1, width, std=0.5),
        'pos_embed': _normal(rng, 1, grid * grid + 1, width, std=positions),
    }
    _conv(state, rng, 'patch_embed.proj', width, 3, patch, patch, gain=3.0)
    for i in range(depth):
        block = f'blocks.{i}'
        _norm(state, rng, f'{block}.norm1', width)
        _linear(state, rng, f'{block}.attn.qkv', 3 * width, width, gain=1.5)
        _linear(state, rng, f'{block}.attn.proj', width, width, gain=0.5)
        _norm(state, rng, f'{block}.norm2', width)
        _linear(state, rng, f'{block}.mlp.fc1', 4 * width, width)
        _linear(state, rng, f'{block}.mlp.fc2', width, 4 * width, gain=0.5)
    _norm(state, rng, 'norm', width)
    return state


# What a small SAM is made of, for whoever builds the modules.
SAM_SIZES = {
    'width': 64,
    'depth': 2,
    'heads': 2,
    'window': 14,
    'global_blocks': (1,),
    'neck': 32,
    'decoder_depth': 2,
    'decoder_heads': 4,
    'decoder_mlp': 64,
    'mask_channels': 8,
    'iou_depth': 3,
    'iou_hidden': 32,
    'patch': 16,
    'image': 1024,
}


def sam_state_dict(seed=12, **sizes):
    """A small SAM in the names of ``segment_anything``; picture side 1024, grid 64x64."""
    s = {**SAM_SIZES, **sizes}
    rng = np.random.RandomState(seed)
    width, neck, grid = s['width'], s['neck'], s['image'] // s['patch']
    head = width // s['heads']
    state = {'image_encoder.pos_embed': _normal(rng, 1, grid, grid, width, std=0.3)}
    _conv(state, rng, 'image_encoder.patch_embed.proj', width, 3, s['patch'], s['patch'])
    for i in range(s['depth']):
        block = f'image_encoder.blocks.{i}'
        side = grid if i in s['global_blocks'] else s['window']
        _norm(state, rng, f'{block}.norm1', width)
        for axis in 'hw':
            state[f'{block}.attn.rel_pos_{axis}'] = _normal(rng, 2 * side - 1, head, std=0.3)
        _linear(state, rng, f'{block}.attn.qkv', 3 * width, width, gain=1.5)
        _linear(state, rng, f'{block}.attn.proj', width, width, gain=0.5)
        _norm(state, rng, f'{block}.norm2', width)
        _linear(state, rng, f'{block}.mlp.lin1', 4 * width, width)
        _linear(state, rng, f'{block}.mlp.lin2', width, 4 * width, gain=0.5)
    _conv(state, rng, 'image_encoder.neck.0', neck, width, 1, 1, bias=False)
    _norm(state, rng, 'image_encoder.neck.1', neck)
    _conv(state, rng, 'image_encoder.neck.2', neck, neck, 3, 3, bias=False)
    _norm(state, rng, 'image_encoder.neck.3', neck)

    prompt, channels = 'prompt_encoder', s['mask_channels']
    state[f'{prompt}.pe_layer.positional_encoding_gaussian_matrix'] = _normal(
        rng, 2, neck // 2, std=1.0
    )
    for i in range(4):
        state[f'{prompt}.point_embeddings.{i}.weight'] = _normal(rng, 1, neck, std=1.0)
    state[f'{prompt}.not_a_point_embed.weight'] = _normal(rng, 1, neck, std=1.0)
    _conv(state, rng, f'{prompt}.mask_downscaling.0', channels // 4, 1, 2, 2, gain=4.0)
    _norm(state, rng, f'{prompt}.mask_downscaling.1', channels // 4)
    _conv(state, rng, f'{prompt}.mask_downscaling.3', channels, channels // 4, 2, 2)
    _norm(state, rng, f'{prompt}.mask_downscaling.4', channels)
    _conv(state, rng, f'{prompt}.mask_downscaling.6', neck, channels, 1, 1)
    state[f'{prompt}.no_mask_embed.weight'] = _normal(rng, 1, neck, std=1.0)

    decoder = 'mask_decoder'
    for i in range(s['decoder_depth']):
        layer = f'{decoder}.transformer.layers.{i}'
        for part, inner in (
            ('self_attn', neck),
            ('cross_attn_token_to_image', neck // 2),
            ('cross_attn_image_to_token', neck // 2),
        ):
            _attention(state, rng, f'{layer}.{part}', neck, inner)
        for k in range(1, 5):
            _norm(state, rng, f'{layer}.norm{k}', neck)
        _linear(state, rng, f'{layer}.mlp.lin1', s['decoder_mlp'], neck)
        _linear(state, rng, f'{layer}.mlp.lin2', neck, s['decoder_mlp'])
    _attention(state, rng, f'{decoder}.transformer.final_attn_token_to_image', neck, neck // 2)
    _norm(state, rng, f'{decoder}.transformer.norm_final_attn', neck)
    state[f'{decoder}.iou_token.weight'] = _normal(rng, 1, neck, std=1.0)
    state[f'{decoder}.mask_tokens.weight'] = _normal(rng, 4, neck, std=1.0)
    state[f'{decoder}.output_upscaling.0.weight'] = _normal(
        rng, neck, neck // 4, 2, 2, std=neck**-0.5
    )
    state[f'{decoder}.output_upscaling.0.bias'] = _normal(rng, neck // 4, std=0.02)
    _norm(state, rng, f'{decoder}.output_upscaling.1', neck // 4)
    state[f'{decoder}.output_upscaling.3.weight'] = _normal(
        rng, neck // 4, neck // 8, 2, 2, std=(neck // 4) ** -0.5
    )
    state[f'{decoder}.output_upscaling.3.bias'] = _normal(rng, neck // 8, std=0.02)
    for i in range(4):
        net = f'{decoder}.output_hypernetworks_mlps.{i}.layers'
        for k, (out, into) in enumerate([(neck, neck), (neck, neck), (neck // 8, neck)]):
            _linear(state, rng, f'{net}.{k}', out, into, gain=8.0 if k == 2 else 1.0)
    outs = [s['iou_hidden']] * (s['iou_depth'] - 1) + [4]
    intos = [neck] + [s['iou_hidden']] * (s['iou_depth'] - 1)
    for k, (out, into) in enumerate(zip(outs, intos, strict=True)):
        _linear(state, rng, f'{decoder}.iou_prediction_head.layers.{k}', out, into, bias_std=0.3)
    return state


def _attention(state, rng, name, width, inner):
    for part in ('q_proj', 'k_proj', 'v_proj'):
        _linear(state, rng, f'{name}.{part}', inner, width)
    _linear(state, rng, f'{name}.out_proj', width, inner)


def region_map(height, width, seed, regions=9, unsegmented=2):
    """``(height, width)`` int64: cells of a Voronoi diagram, ids 1..; ``unsegmented`` of them 0."""
    rng = np.random.RandomState(seed)
    centres = rng.uniform(0, 1, (regions, 2)) * (height, width)
    ys, xs = np.mgrid[0:height, 0:width] + 0.5
    distance = (ys[..., None] - centres[:, 0]) ** 2 + (xs[..., None] - centres[:, 1]) ** 2
    ids = distance.argmin(-1) + 1
    return np.where(ids <= regions - unsegmented, ids, 0)


def unit_vectors(count, width, seed):
    """``(count, width)`` float32 rows of unit length."""
    rows = np.random.RandomState(seed).standard_normal((count, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def soft_planes(classes, height, width, seed, sharpness=6.0):
    """``(classes, height, width)`` float32 probabilities, smooth in space; they sum to 1."""
    rng = np.random.RandomState(seed)
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float64)
    logits = np.zeros((classes, height, width))
    for plane in logits:
        for _ in range(4):
            cy, cx = rng.uniform(0, height), rng.uniform(0, width)
            s = rng.uniform(0.08, 0.2) * max(height, width)
            plane += rng.uniform(0.3, 1) * np.exp(-((ys - cy) ** 2 + (xs - cx) ** 2) / (2 * s * s))
    logits *= sharpness
    logits -= logits.max(axis=0)
    planes = np.exp(logits)
    return (planes / planes.sum(axis=0)).astype(np.float32)
