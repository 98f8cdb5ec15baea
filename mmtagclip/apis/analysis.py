"""One image, encoded once, with results for any names and thresholds."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from mmengine.dataset import pseudo_collate

from ..clip import Encoded, Names
from ..models import TagCLIP, TagCLIPHead, TagRule
from ..models.precision import full_precision
from ..models.segmentors.base import TrainingFreeSegmentor
from ..models.taggers.heads import TagScores
from ..models.taggers.selection import Tag
from .inferencer import ImageInferencer
from .inputs import ImageInput
from .results import SegResult, TagResult
from .seg_inferencer import SegInferencer
from .tag_inferencer import TagInferencer


class Analysis:
    """An encoded image.

    The encoder runs when this is made. Scores under other names or thresholds, and
    masks of other tags, run parts of the head and of the last block only (CWR also
    shows the candidates' crops to plain CLIP).

    Args:
        model: An inferencer, whose pipeline the image takes; or a tagger or a
            training-free segmentor, whose input is the image on the patch grid.
        pixels: The image, ``(H, W, 3)`` uint8 RGB.
        name: Of the image.
        max_side: Larger images are shrunk for the encoder, in pixels; ignored with an
            inferencer, which has its own.

    Raises:
        TypeError: A model of another kind.
        ValueError: An image that the model can't take, such as one smaller than a window.
    """

    def __init__(
        self, model: Any, pixels: np.ndarray, name: str = 'image', max_side: int = 640
    ) -> None:
        self.inferencer = inferencer = inferencer_of(model, max_side)
        self.model: TagCLIP | TrainingFreeSegmentor = inferencer.model
        self.pixels = pixels
        self.name = name
        data = inferencer.load(ImageInput(name, pixels)).data
        image = self.model.data_preprocessor(pseudo_collate([data]), False)['inputs'][0]
        if isinstance(self.model, TagCLIP):
            self.encoded: Any = _encode(self.model, image[None])
            self._tagging: Encoded | None = self.encoded
        else:
            original = np.ascontiguousarray(pixels[..., ::-1])
            assert data is not None
            regions = data['data_samples'].get('regions')
            self.encoded = self.model.encode(image, original, regions=regions)
            self._tagging = self.encoded.tagging

    def stages(self, names: Any = None, **rule: Any) -> dict[str, TagResult]:
        """Tags after each step of the tagger, by the step's name.

        Args:
            names: What the model's ``names_for`` returned; its own if None.
            **rule: ``threshold``, ``min_score`` and ``top``; see :meth:`TagCLIP.rule_for`.

        Returns:
            ``coarse``, ``DMAR``, ``CWR`` and ``calibrated``, as far as the head has them; of
            another head its scores alone, as ``scores``; nothing where the model has no tagger.
            All have score maps, but for a head that makes none.

        Raises:
            ValueError: An option is out of range, or there is no tagger for it.
        """
        tagger = self.model if isinstance(self.model, TagCLIP) else self.model.tagger
        names = self.model.names if names is None else names
        tag_rule = self.inferencer.rule_of(names, **rule)
        if tagger is None or tag_rule is None or self._tagging is None:
            return {}
        asked: Names = names if isinstance(names, Names) else names.tagger
        head = tagger.head
        heads = {'scores': head}
        if isinstance(head, TagCLIPHead):
            heads = {'coarse': TagCLIPHead(scorer=head.scorer)}
            if head.dmar is not None:
                heads['DMAR'] = TagCLIPHead(dmar=head.dmar, scorer=head.scorer)
            if head.cwr is not None:
                heads['CWR'] = TagCLIPHead(dmar=head.dmar, cwr=head.cwr, scorer=head.scorer)
            if head.calibration is not None:
                heads['calibrated'] = head
            else:
                heads[list(heads)[-1]] = head
        return {
            step: self._result(_score(tagger, one, self._tagging, asked), asked, tag_rule)
            for step, one in heads.items()
        }

    def masks(
        self,
        names: Any = None,
        tags: TagResult | None = None,
        background_level: float | None = None,
    ) -> SegResult:
        """Masks of a segmentor.

        Args:
            names: What the model's ``names_for`` returned; its own if None.
            tags: Which classes to look for; if None, the tagger's own, or all classes where
                there is no tagger.
            background_level: A pixel is background where no class's map is above this,
                in (0, 1); as the model says if None.

        Raises:
            ValueError: The level is outside of its range, or the model has no background.
        """
        found = None
        if tags is not None:
            found = [Tag(label, float(tags.scores[label])) for label in tags.labels.tolist()]
        names = self.model.names if names is None else names
        sample = self.model.masks(self.encoded, names, found, background_level)
        size = self.pixels.shape[:2]
        result = SegInferencer.to_result(names.dataset_meta, self.name, size, sample)
        return replace(result, class_scores=None if tags is None else tags.record.class_scores)

    def _result(self, scored: TagScores, names: Names, rule: TagRule) -> TagResult:
        maps = scored.score_maps
        return TagResult(
            self.name,
            self.pixels.shape[:2],
            names.vocabulary.names,
            scored.scores[0].cpu().numpy(),
            rule.labels(scored.scores[0]).cpu().numpy(),
            None if maps is None else maps[0].cpu().numpy(),
            rule=rule,
        )


def inferencer_of(model: Any, max_side: int | None = None) -> ImageInferencer:
    """The inferencer of a model, or the inferencer itself.

    Args:
        model: A tagger, a training-free segmentor, or an inferencer of one.
        max_side: Larger images are shrunk for the encoder, in pixels; ignored with an
            inferencer.

    Raises:
        TypeError: Something else.
    """
    built = model.model if isinstance(model, ImageInferencer) else model
    if not isinstance(built, TagCLIP | TrainingFreeSegmentor):
        raise TypeError(
            f'a TagCLIP or a training-free segmentor is needed, not a {type(built).__name__}'
        )
    if isinstance(model, ImageInferencer):
        return model
    kind = TagInferencer if isinstance(model, TagCLIP) else SegInferencer
    return kind(model, max_side=max_side, show_progress=False)


@torch.no_grad()
@full_precision
def _encode(tagger: TagCLIP, images: torch.Tensor) -> Encoded:
    return tagger.encode(images)


@torch.no_grad()
@full_precision
def _score(tagger: TagCLIP, head: Any, encoded: Encoded, names: Names) -> TagScores:
    return head(encoded, names)
