"""The tagger of a segmentor that reads images in another way: it gets the original image."""

from typing import Any

import torch
from mmengine.config import ConfigDict
from mmseg.structures import SegDataSample

from ...clip import Encoded
from ...images import PatchGrid
from ...registry import MODELS
from ..clip_encoder import CLIPEncoder
from ..taggers.tagger import TagCLIP


def build_tagger(
    tagger: ConfigDict | dict | TagCLIP | None, encoder: CLIPEncoder | None, count: int
) -> TagCLIP | None:
    """Build the tagger of a segmentor.

    Args:
        tagger: Its config, the tagger, or None.
        encoder: For a config that has none.
        count: Number of the segmentor's classes.

    Raises:
        ValueError: The tagger has another number of classes.
    """
    if isinstance(tagger, dict):
        own: dict[str, Any] = {} if encoder is None else {'encoder': encoder}
        built: TagCLIP | None = MODELS.build({**own, **tagger})
    else:
        built = tagger
    if built is not None and len(built.vocabulary) != count:
        raise ValueError(f'the tagger has {len(built.vocabulary)} classes, the segmentor {count}')
    return built


def encode_original(tagger: TagCLIP | None, sample: SegDataSample, max_side: int) -> Encoded:
    """Encode the original image for the tagger, on its patch grid.

    Args:
        tagger: The tagger.
        sample: With ``original``.
        max_side: Images with a longer side, in pixels, are shrunk.
    """
    assert tagger is not None
    grid = PatchGrid(tagger.encoder.patch_size, max_side=max_side)
    fitted = grid.resize(sample.original, sample.get('img_path', 'an image'))
    image = torch.from_numpy(fitted.copy()).permute(2, 0, 1).to(tagger.text.device)
    return tagger.encode(tagger.data_preprocessor.normalise(image)[None])
