"""From images to masks."""

# First: what is imported below imports MMSegmentation, too, and has said its lines then.
from ..frameworks import segmentation  # noqa: F401

# isort: split
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from mmengine.config import ConfigDict
from mmengine.structures import BaseDataElement
from mmseg.models.segmentors import BaseSegmentor

from ..exports.instances import instances_of
from ..files import write_whole
from ..labels import IGNORED, index_mask
from ..models import TagRule
from ..models.segmentors.base import TrainingFreeSegmentor
from .inferencer import DEFAULT_MAX_SIDE, ImageInferencer, LoadedImage
from .result import KeptImage
from .results import SegResult

if TYPE_CHECKING:
    from ..visualization import MaskVisualizer


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
    real_model = 'cls-seg_vit-base-p16_openai_coco-object'
    packing = ConfigDict(
        type='mmseg.PackSegInputs', meta_keys=('img_path', 'ori_shape', 'original')
    )

    def default_steps(self) -> list[ConfigDict]:
        """The pipeline of a model whose config has none."""
        if self._is_open:
            return super().default_steps()
        # A trained model has no patch grid: an image of up to 1024 pixels keeps its size.
        grid = {'max_side': DEFAULT_MAX_SIDE, 'patch_size': 1, 'max_patches': DEFAULT_MAX_SIDE**2}
        return [
            ConfigDict(type='mmtagclip.ResizeToPatchGrid', **grid),
            ConfigDict(type='mmseg.PackSegInputs'),
        ]

    def write(self, path: Path, result: SegResult) -> None:
        """Write a result as JSON, and its mask of labels as PNG."""
        super().write(path, result)
        if result.error is None:
            write_whole(f'{path}.png', result.mask_png())

    def rule_of(self, names: Any, **options: Any) -> TagRule | None:
        """See :meth:`ImageInferencer.rule_of`."""
        if self.model.tagger is None:
            return self.model.check_call(names, **options)
        return self.model.tagger.rule_for(names.tagger, **options)

    def with_options(self, result: SegResult, rule: TagRule | None, call: Any) -> SegResult:
        """A result that knows the options of its call."""
        return result if call.all_scores else replace(result, class_scores=None)

    def label_names(self, names: Any) -> tuple[str, ...]:
        """``classes`` of the results of a call with these names."""
        return tuple(self._meta(names)['classes'])

    def result(self, names: Any, image: LoadedImage, sample: BaseDataElement) -> SegResult:
        """Result of one image from the names of the call and its data sample."""
        kept = KeptImage(image.source)
        return self.to_result(self._meta(names), image.source.name, image.size, sample, kept)

    @staticmethod
    def to_result(
        meta: Mapping[str, Any],
        name: str,
        size: tuple[int, int],
        sample: BaseDataElement,
        source: KeptImage | None = None,
    ) -> SegResult:
        """Result of an image.

        Args:
            meta: ``classes`` and ``palette`` of the labels.
            name: Of the image.
            size: ``(H, W)`` in pixels.
            sample: What a segmentor filled.
            source: The image, for drawings.

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
            class_scores=sample.get('class_scores'),
            asked=sample.get('asked'),
            instances=instances_of(sample, meta['classes'][int(_background(meta) == 0) :]),
            source=source,
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
        self.visualizer.dataset_meta = {
            'classes': result.classes,
            'palette': result.palette,
        }

    def make_visualizer(self) -> 'MaskVisualizer':
        """See :meth:`ImageInferencer.make_visualizer`."""
        from ..visualization import MaskVisualizer  # here: matplotlib takes its time

        return MaskVisualizer(name='seg-inferencer')


def _palette(meta: Mapping[str, Any]) -> tuple[tuple[int, int, int], ...]:
    return tuple((int(red), int(green), int(blue)) for red, green, blue in meta['palette'])


def _background(meta: Mapping[str, Any]) -> int | None:
    return 0 if meta['classes'][0] == 'background' else None
