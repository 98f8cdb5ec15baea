"""A small SAM and the other models of Trident with rebuildable random weights."""

import numpy as np
import torch
from safetensors.torch import save_file

from tests.golden.regions.stand_ins import SAM_SIZES, dino_state_dict, sam_state_dict

SIZES = {
    'embed_dim': SAM_SIZES['width'],
    'depth': SAM_SIZES['depth'],
    'num_heads': SAM_SIZES['heads'],
    'global_attn_indexes': SAM_SIZES['global_blocks'],
    **{
        key: SAM_SIZES[key]
        for key in (
            'neck',
            'mask_channels',
            'decoder_depth',
            'decoder_heads',
            'decoder_mlp',
            'iou_depth',
            'iou_hidden',
        )
    },
}


def save(state, path):
    """Write arrays to a file of weights."""
    save_file(
        {key: torch.from_numpy(np.ascontiguousarray(one)) for key, one in state.items()}, path
    )
    return path


def sam_config(folder):
    """Config of the small SAM, whose weights are written into a folder."""
    path = save(sam_state_dict(), folder / 'sam.safetensors')
    return {'type': 'mmtagclip.SAM', 'checkpoint': str(path), 'sizes': SIZES}


def last_block_config(folder):
    """Config of the last block that gathers by a small DINO."""
    path = save(dino_state_dict(positions=4.0), folder / 'dino.safetensors')
    return {
        'type': 'mmtagclip.ProxyLastBlock',
        'keep_grid': True,
        'source': {
            'type': 'mmtagclip.TimmFeatures',
            'model': 'vit_base_patch16_224.dino',
            'checkpoint': str(path),
            'kwargs': {'embed_dim': 64, 'depth': 3, 'num_heads': 2},
            'positions': 'bicubic_scale',
        },
    }


def tiny_sam2(folder):
    """A folder with a small SAM 2 of random weights, in the layout of transformers."""
    from transformers import Sam2Config, Sam2ImageProcessor, Sam2Model, Sam2VisionConfig

    torch.manual_seed(0)
    backbone = {
        'model_type': 'sam2_hiera_det_model',
        'hidden_size': 16,
        'image_size': [256, 256],
        'blocks_per_stage': [1, 1, 2, 1],
        'embed_dim_per_stage': [16, 32, 64, 128],
        'num_attention_heads_per_stage': [1, 2, 4, 8],
        'global_attention_blocks': [3],
    }
    vision = Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[128, 64, 32, 16],
        backbone_feature_sizes=[[64, 64], [32, 32], [16, 16]],
        fpn_hidden_size=32,
    )
    config = Sam2Config(
        vision_config=vision,
        prompt_encoder_config={'hidden_size': 32, 'image_size': 256},
        mask_decoder_config={'hidden_size': 32, 'mlp_dim': 64, 'iou_head_hidden_dim': 32},
    )
    Sam2Model(config).save_pretrained(folder)
    size, mask_size = {'height': 256, 'width': 256}, {'height': 64, 'width': 64}
    Sam2ImageProcessor(size=size, mask_size=mask_size).save_pretrained(folder)
    return folder
