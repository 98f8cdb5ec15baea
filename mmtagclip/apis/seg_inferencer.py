"""From images to masks."""

# First: the modules below import the frameworks, too, and have said their lines then.
from .. import frameworks  # noqa: F401

# isort: split
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config, ConfigDict
from mmengine.structures import BaseDataElement
from mmseg.models.segmentors import BaseSegmentor

from ..files import write_whole
from ..labels import IGNORED, index_mask
from ..models.segmentors.base import TrainingFreeSegmentor
from ..registry import MODELS
from ..visualization import MaskVisualizer
from .inferencer import ImageInferencer, LoadedImage
from .results import SegResult
from .tag_inferencer import TagInferencer


class SegInferencer(ImageInferencer[SegResult]):
    """Masks of images.

    Examples:
        >>> inferencer = SegInferencer('cls-seg_demo')
        >>> result, = inferencer('demo/data/JPEGImages/000040.jpg', classes=['dog', 'pizza'])
        >>> result.binary_mask('dog')  # (H, W) bool
    """

    model_class = BaseSegmentor
    open_class = TrainingFreeSegmentor
    otherwise = 'for tags use TagInferencer, or mmtagclip tag'
    packing = ConfigDict(
        type='mmseg.PackSegInputs', meta_keys=('img_path', 'ori_shape', 'original')
    )

    def write(self, path: Path, result: SegResult) -> None:
        """Write a result as JSON, and its mask of labels as PNG."""
        super().write(path, result)
        if result.error is None:
            write_whole(f'{path}.png', result.mask_png())

    def check_threshold(self, names: Any, threshold: float | None) -> None:
        """Refuse a threshold outside of [0, 1], or for a segmentor without a tagger."""
        self.model.check_call(names, threshold=threshold)

    def label_names(self, names: Any) -> tuple[str, ...]:
        """``classes`` of the results of a call with these names."""
        return tuple(self._meta(names)['classes'])

    def result(self, names: Any, image: LoadedImage, sample: BaseDataElement) -> SegResult:
        """Result of one image from the names of the call and its data sample."""
        return self.to_result(self._meta(names), image.source.name, image.size, sample)

    @staticmethod
    def to_result(
        meta: Mapping[str, Any], name: str, size: tuple[int, int], sample: BaseDataElement
    ) -> SegResult:
        """Result of an image.

        Args:
            meta: ``classes`` and ``palette`` of the labels.
            name: Of the image.
            size: ``(H, W)`` in pixels.
            sample: What a segmentor filled.

        Raises:
            ValueError: More labels than a mask holds.
        """
        mask = index_mask(sample.pred_sem_seg.data[0].cpu().numpy(), meta['classes'])
        tags = sample.get('tags', [])
        scores = sample.get('tag_scores') or [None] * len(tags)
        ranked = sorted(zip(tags, scores, strict=True), key=lambda tag: -(tag[1] or 0))
        return SegResult(
            name,
            size,
            tuple(meta['classes']),
            _palette(meta),
            mask,
            dict(ranked),
            _background(meta),
        )

    def unreadable(self, names: Any, image: LoadedImage) -> SegResult:
        """Result of an image that could not be read."""
        meta = self._meta(names)
        return SegResult(
            image.source.name,
            (0, 0),
            tuple(meta['classes']),
            _palette(meta),
            np.full((0, 0), IGNORED, np.uint8),
            {},
            _background(meta),
            error=image.error,
        )

    def _meta(self, names: Any) -> Mapping[str, Any]:
        return self.model.dataset_meta if names is None else names.dataset_meta

    def prepare_visualizer(self, result: SegResult) -> None:
        """Give the visualizer the names and colours of a result."""
        self.visualizer.dataset_meta = {  # type: ignore[union-attr]
            'classes': result.classes,
            'palette': result.palette,
        }

    def _init_visualizer(self, cfg: Any) -> MaskVisualizer:
        return MaskVisualizer(name='seg-inferencer')


def _palette(meta: Mapping[str, Any]) -> tuple[tuple[int, int, int], ...]:
    return tuple((int(red), int(green), int(blue)) for red, green, blue in meta['palette'])


def _background(meta: Mapping[str, Any]) -> int | None:
    return 0 if meta['classes'][0] == 'background' else None


def inferencer_class(config: Config) -> type[ImageInferencer]:
    """Which inferencer runs the model of a config: the segmentors' or the taggers'."""
    model = MODELS.get(config.model.type)
    segments = isinstance(model, type) and issubclass(model, SegInferencer.model_class)
    return SegInferencer if segments else TagInferencer
