"""A tiny SAM 3 with random weights that anyone can rebuild: good for checking code, no more."""

import numpy as np
import torch

PART = {'hidden_size': 32, 'num_attention_heads': 2, 'intermediate_size': 64, 'num_layers': 2}
TINY_SAM3 = {
    'vision_config': {
        'backbone_config': {
            'model_type': 'sam3_vit_model',
            'hidden_size': 32,
            'intermediate_size': 64,
            'num_hidden_layers': 2,
            'num_attention_heads': 2,
            'image_size': 224,
            'patch_size': 14,
            'window_size': 4,
            'global_attn_indexes': [1],
            'pretrain_image_size': 112,
        },
        'fpn_hidden_size': 32,
        'backbone_feature_sizes': [[64, 64], [32, 32], [16, 16]],
    },
    'text_config': {
        'vocab_size': 49408,  # that of CLIP's tokenizer
        'hidden_size': 32,
        'intermediate_size': 64,
        'projection_dim': 16,
        'num_hidden_layers': 2,
        'num_attention_heads': 2,
        'max_position_embeddings': 32,
        'hidden_act': 'gelu',
    },
    'geometry_encoder_config': {**PART, 'num_layers': 1},
    'detr_encoder_config': PART,
    'detr_decoder_config': {**PART, 'num_queries': 12},
    'mask_decoder_config': {'hidden_size': 32, 'num_attention_heads': 2},
}


def sam3_state_dict(seed=0):
    """The weights of a ``Sam3Model`` of these settings, float32, by their names.

    The values come from ``numpy.random.RandomState``, name by name in alphabetical order. They are
    large enough that phrases and places differ.

    Returns:
        dict[str, torch.Tensor]: the weights.
    """
    from transformers import Sam3Config, Sam3Model

    with torch.device('meta'):
        shapes = {
            name: tuple(value.shape)
            for name, value in Sam3Model(Sam3Config(**TINY_SAM3)).state_dict().items()
        }
    rng = np.random.RandomState(seed)
    state = {}
    for name in sorted(shapes):
        values = rng.standard_normal(shapes[name])
        if 'norm' in name and name.endswith('.weight'):
            values = 1 + 0.2 * values
        elif values.ndim > 1 and 'embed' not in name:
            values *= 1.5 * np.prod(values.shape[1:]) ** -0.5
        elif name.endswith('.bias'):
            values *= 0.1
        if name.startswith('mask_decoder.instance_projection.'):
            values *= 0.1 if name.endswith('.weight') else 0  # masks with an outside
        state[name] = torch.from_numpy(values.astype(np.float32))
    return state
