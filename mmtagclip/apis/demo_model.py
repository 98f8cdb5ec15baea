"""What to say where the bundled demo model is given images that it does not know."""

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from ..clip import DenseEncoder, Vocabulary
from .inputs import ImageInput
from .model_zoo import zoo_root


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
    own = encoder.visual.proj.detach().float().cpu()
    return own.shape == bundled.shape and torch.equal(own, bundled)


def demo_notice(model: Any, images: Iterable[ImageInput], command: Sequence[str]) -> str | None:
    """What to say once of a call; None for another model, or if all images are the demo's.

    Args:
        model: A tagger or segmentor.
        images: The images of the call.
        command: A command that does the same with a real model.
    """
    scenes = (zoo_root() / 'demo' / 'data').resolve()
    if all(
        isinstance(image.source, Path) and image.source.resolve().is_relative_to(scenes)
        for image in images
    ):
        return None
    return notice(command) if is_demo_model(model) else None


def notice(command: Sequence[str]) -> str:
    """The notice itself.

    Args:
        command: A command that does the same with a real model.
    """
    classes = zoo_root() / 'demo' / 'data' / 'classes.txt'
    return (
        f'this small model knows only {len(Vocabulary.load(classes))} pictograms, and its answers '
        f'about other images mean nothing; for photographs start with: {shlex.join(command)}'
    )
