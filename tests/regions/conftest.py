"""Small ViTs of timm with random weights."""

import pytest
import timm
import torch
from safetensors.torch import save_file

SMALL = {'embed_dim': 48, 'depth': 2, 'num_heads': 3, 'img_size': 64}


def vit(patch=8, name='vit_tiny_patch16_224', **kwargs):
    torch.manual_seed(patch)
    return timm.create_model(
        name, num_classes=0, dynamic_img_size=True, patch_size=patch, **{**SMALL, **kwargs}
    )


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    """Random weights of small ViTs, by patch size."""
    folder = tmp_path_factory.mktemp('vit')
    paths = {}
    for patch in (8, 14, 16):
        paths[patch] = folder / f'{patch}.safetensors'
        save_file(vit(patch).state_dict(), paths[patch])
    return paths
