"""One image, encoded once, and the cheap questions asked of it."""

import math
from typing import Any

import numpy as np
import torch

from ..datasets import ResizeToPatchGrid
from ..models import TagCLIP, TagCLIPHead, relative_threshold
from ..models.precision import full_precision
from .inferencer import SegInferencer
from .results import SegResult, TagResult


class Analysis:
    """An encoded image.

    The encoder runs when this is made. Scores under other names or thresholds, and
    masks of other tags, run parts of the head and of the last block only (CWR also
    shows the candidates' crops to plain CLIP).

    Args:
        model: A tagger, or a segmentor for masks as well.
        pixels: The image, ``(H, W, 3)`` uint8 RGB.
        name: Of the image.
        max_side: Larger images are shrunk for the encoder, in pixels.
    """

    def __init__(
        self, model: Any, pixels: np.ndarray, name: str = 'image', max_side: int = 640
    ) -> None:
        self.segments = hasattr(model, 'encoded_masks')
        tagger: TagCLIP = model.tagger if self.segments else model
        self.pixels = pixels
        self.name = name
        resize = ResizeToPatchGrid(tagger.encoder.patch_size, max_side=max_side)
        fitted = resize({'img': np.ascontiguousarray(pixels[..., ::-1]), 'img_path': name})['img']
        image = torch.from_numpy(np.array(fitted)).permute(2, 0, 1)
        self.images = tagger.data_preprocessor({'inputs': [image]})['inputs'][0][None]
        layers = [
            *tagger.head.attention_layers,
            *([model.affinity.layers] if self.segments else []),
        ]
        self.features = _encode(tagger, self.images, layers)

    def stages(self, tagger: TagCLIP) -> dict[str, TagResult]:
        """Tags after each step of a tagger, by the step's name.

        Args:
            tagger: The one that the image was encoded for, or a variant of it.

        Returns:
            ``coarse``, ``DMAR`` and ``CWR``, as far as the head has them; of another
            head its scores alone, as ``scores``. All have score maps, but for a head
            that makes none.
        """
        head = tagger.head
        if not isinstance(head, TagCLIPHead):
            return {'scores': self._score(tagger, head)}
        same: dict[str, Any] = {'threshold': head.threshold, 'scorer': head.scorer}
        heads = {'coarse': TagCLIPHead(**same)}
        if head.dmar is not None:
            heads['DMAR'] = TagCLIPHead(dmar=head.dmar, **same)
        if head.cwr is not None:
            heads['CWR'] = head
        return {step: self._score(tagger, one) for step, one in heads.items()}

    def masks(self, segmentor: Any, tags: TagResult, background_level: float = 0.5) -> SegResult:
        """Masks of an image's tags.

        Args:
            segmentor: The one that the image was encoded for, or a variant of it.
            tags: Which tags.
            background_level: A pixel is background where no tag's map is above this,
                in (0, 1); published: 0.5.

        Raises:
            ValueError: The level is outside of its range.
        """
        if not 0 < background_level < 1:
            raise ValueError(f'the background level must be in (0, 1), not {background_level}')
        # The level at which (1 - m) ** exponent and m are equal.
        exponent = math.log(background_level) / math.log(1 - background_level)
        sample = segmentor.encoded_masks(
            self.features, tags.labels.tolist(), self.pixels[..., ::-1], exponent
        )
        sample.set_field(list(tags.tags.values()), 'tag_scores', field_type='metainfo')
        sample.set_field(list(tags.tags), 'tags', field_type='metainfo')
        return SegInferencer.to_result(segmentor, self.name, self.pixels.shape[:2], sample)

    def _score(self, tagger: TagCLIP, head: Any) -> TagResult:
        scored = _score(tagger, head, self.features, self.images)
        labels = relative_threshold(scored.scores[0], head.threshold).nonzero().flatten()
        maps = scored.score_maps
        return TagResult(
            self.name,
            self.pixels.shape[:2],
            tagger.vocabulary.names,
            scored.scores[0].cpu().numpy(),
            labels.cpu().numpy(),
            None if maps is None else maps[0].cpu().numpy(),
        )


@full_precision
def _encode(tagger: TagCLIP, images: Any, layers: Any) -> Any:
    return tagger.encoder(images, layers, tagger.head.needs_votes)


@torch.no_grad()
@full_precision
def _score(tagger: TagCLIP, head: Any, features: Any, images: Any) -> Any:
    return head(features, images, tagger.text, len(tagger.vocabulary), tagger.encoder)
