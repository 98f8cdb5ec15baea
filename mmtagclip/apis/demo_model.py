"""What to say where the bundled demo model is given images that it does not know."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from ..clip import DenseEncoder, Vocabulary
from ..files import real_path
from .inputs import ImageInput
from .model_zoo import zoo_root

REAL_TAGGER = 'tagclip_vit-base-p16_openai_folder'  # to name beside the demo's


def is_demo_model(model: Any) -> bool:
    """Whether a model's encoder is the demo's tiny CLIP, whatever config or copy it came from.

    Args:
        model: A tagger or segmentor.
    """
    encoder = getattr(model, 'encoder', None)
    weights = zoo_root() / 'demo' / 'model' / 'open_clip_model.safetensors'
    if not isinstance(encoder, DenseEncoder) or not weights.is_file():
        return False
    with safe_open(weights, 'pt') as file:
        bundled = file.get_tensor('visual.proj').float()
    own = getattr(encoder.visual, 'proj', None)  # which other towers do not have
    if own is None:
        return False
    own = own.detach().float().cpu()
    return own.shape == bundled.shape and torch.equal(own, bundled)


def are_demo_scenes(images: Iterable[ImageInput]) -> bool:
    """Whether all images are the bundled scenes."""
    scenes = (zoo_root() / 'demo' / 'data').resolve()
    return all(
        isinstance(image.source, Path) and real_path(image.source).is_relative_to(scenes)
        for image in images
    )


def demo_notice(start: str) -> str:
    """What to say of the demo's model.

    Args:
        start: What starts the same with a real model: a command, or a line of Python.
    """
    classes = Vocabulary.load(zoo_root() / 'demo' / 'data' / 'classes.txt')
    return (
        f'this small model knows only {len(classes)} pictograms, and what it says of other images '
        f'means nothing; for photographs start with: {start}'
    )
