"""Arrays of ExCEL, CLIP-DINOiser and ReCo, and the small CLIP that the first two ran on."""

from pathlib import Path

import numpy as np
import open_clip
import torch

from mmtagclip.clip import DenseEncoder, load_clip

FOLDER = Path(__file__).parent
ARCHITECTURE = {
    'embed_dim': 16,
    'vision_cfg': {'image_size': 32, 'layers': 8, 'width': 24, 'patch_size': 8, 'head_width': 8},
    'text_cfg': {'context_length': 77, 'vocab_size': 49408, 'width': 16, 'heads': 1, 'layers': 1},
}


def arrays(name: str) -> dict[str, torch.Tensor]:
    """The arrays of a file, as tensors."""
    return {key: torch.from_numpy(value) for key, value in np.load(FOLDER / f'{name}.npz').items()}


def encoder(*policy, quick_gelu: bool, **options) -> DenseEncoder:
    """The encoder of the arrays; its text tower is random."""
    clip = open_clip.CLIP(**ARCHITECTURE, quick_gelu=quick_gelu)
    clip.load_state_dict(arrays('vit'), strict=False)
    return DenseEncoder(load_clip(clip), *policy, **options)
