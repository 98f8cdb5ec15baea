"""Results of one image, and what they convert to."""

# First: what is imported below imports MMPretrain, too, and has said its lines then.
from ..frameworks import pretrain  # noqa: F401

# isort: split
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from mmengine.structures import InstanceData, PixelData
from mmpretrain.structures import DataSample

from ..exports.instances import Instance, concept_fields
from ..exports.jsonl import mask_entries
from ..labels import IGNORED, label_counts, mask_png
from ..models import TagRule
from ..models.taggers.thresholds import ThresholdSource, class_thresholds
from ..records import ImageRecord
from .result import ImageResult, KeptImage

if TYPE_CHECKING:
    from mmseg.structures import SegDataSample


@dataclass(frozen=True, eq=False, repr=False)
class TagResult(ImageResult):
    """The tags of one image.

    Attributes:
        image: Its path or name.
        size: ``(H, W)`` in pixels; ``(0, 0)`` if it could not be read.
        classes: Names of the F classes that were asked for.
        scores: ``(F,)`` float32, of every class; zeros if it could not be read.
        labels: ``(T,)`` int64, indices of the tags in ``classes``, ascending.
        score_maps: ``(F, h, w)`` float32 on the patch grid; None if not asked for.
        error: What was wrong with the image; None if nothing.
        rule: How scores become tags.
        all_scores: Whether the record, JSON and rows hold the score of every class.
        descriptors: Of each class, if it has descriptions, R in all.
        shares: ``(R,)`` float32, how much each of these spoke for its class; of each class
            together 1. See :attr:`why`.
        source: The image, for drawings.

    Raises:
        ValueError: Shapes that do not fit together.
    """

    image: str
    size: tuple[int, int]
    classes: tuple[str, ...]
    scores: np.ndarray
    labels: np.ndarray
    score_maps: np.ndarray | None = None
    error: str | None = None
    rule: TagRule = field(default_factory=TagRule)
    all_scores: bool = False
    descriptors: tuple[tuple[str, ...], ...] | None = None
    shares: np.ndarray | None = None
    source: KeptImage | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        count = len(self.classes)
        if self.scores.shape != (count,):
            raise ValueError(
                f'scores must be ({count},) for {count} classes, not {self.scores.shape}'
            )
        if self.labels.ndim != 1 or any(not 0 <= label < count for label in self.labels):
            raise ValueError(f'labels must be indices of {count} classes, not {self.labels}')
        if self.score_maps is not None and (
            self.score_maps.ndim != 3 or len(self.score_maps) != count
        ):
            raise ValueError(
                f'score_maps must be ({count}, h, w) for {count} classes, not '
                f'{self.score_maps.shape}'
            )

    @property
    def tags(self) -> dict[str, float]:
        """Score of each tag by its name, from the highest to the lowest."""
        order = sorted(self.labels.tolist(), key=lambda label: -self.scores[label])
        return {self.classes[label]: float(self.scores[label]) for label in order}

    def describe(self) -> dict[str, str]:
        """Score of each tag, from the highest on, with two digits."""
        return {tag: f'{score:.2f}' for tag, score in self.tags.items()}

    @property
    def why(self) -> dict[str, dict[str, float]]:
        """The descriptors that spoke for each tag, with their share, the highest first.

        Empty without descriptions. The share is a softmax over the class's descriptors of their
        cosines with the patch in which the class was found; a class's shares add up to 1.
        """
        if self.descriptors is None or self.shares is None:
            return {}
        ends = np.cumsum([len(one) for one in self.descriptors])
        reasons = {}
        for label in sorted(self.labels.tolist(), key=lambda label: -self.scores[label]):
            words = self.descriptors[label]
            shares = self.shares[ends[label] - len(words) : ends[label]].tolist()
            order = sorted(zip(words, shares, strict=True), key=lambda one: -one[1])
            reasons[self.classes[label]] = dict(order)
        return reasons

    @property
    def record(self) -> ImageRecord:
        """Tags and scores, or the error, as they are stored."""
        if self.error is not None:
            return ImageRecord(self.image, error=self.error)
        scores = dict(zip(self.classes, self.scores.tolist(), strict=True))
        return ImageRecord(
            self.image,
            tuple(self.tags),
            tuple(self.tags.values()),
            size=self.size,
            class_scores=scores if self.all_scores else None,
            more={'why': self.why} if self.why else {},
        )

    def with_rule(
        self,
        threshold: float | None = None,
        min_score: float | None = None,
        top: int | None = None,
        thresholds: ThresholdSource | None = None,
    ) -> 'TagResult':
        """The same scores under another rule; what is None stays as it is.

        Args:
            threshold: Tags score above ``min + threshold * (max - min)`` of the image's own
                scores.
            min_score: Lowest score of a tag, in [0, 1].
            top: Most tags.
            thresholds: Of single classes, see
                :func:`mmtagclip.models.taggers.thresholds.class_thresholds`.

        Raises:
            TypeError: A value of another type.
            ValueError: A value is out of range.
        """
        own = None if thresholds is None else class_thresholds(thresholds, self.classes)
        rule = self.rule.but(threshold=threshold, min_score=min_score, top=top, thresholds=own)
        if self.error is not None:
            return replace(self, rule=rule)
        labels = rule.labels(torch.from_numpy(self.scores))
        return replace(self, labels=labels.numpy(), rule=rule)

    def with_threshold(self, k: float) -> 'TagResult':
        """The same scores under another relative threshold; see :meth:`with_rule`."""
        return self.with_rule(threshold=k)

    def to_dict(self) -> dict[str, Any]:
        """JSON values: ``image``, ``tags`` with their ``scores``, and ``size``; or ``error``.

        With descriptions also ``why``, see :attr:`why`.

        With :attr:`all_scores` also ``class_scores``, the score of every class by its name.
        """
        return self.record.to_dict()

    def to_json(self) -> str:
        """:meth:`to_dict` as one line."""
        return self.record.to_json()

    def rows(self) -> list[dict[str, Any]]:
        """One dict per tag (``image``, ``tag``, ``score``), as ``pandas.DataFrame`` takes them.

        With :attr:`all_scores` one per class (``image``, ``class``, ``score``, ``is_tag``).
        None for an image that could not be read.
        """
        if self.error is not None:
            return []
        if not self.all_scores:
            return [
                {'image': self.image, 'tag': tag, 'score': score}
                for tag, score in self.tags.items()
            ]
        tags = set(self.labels.tolist())
        return [
            {'image': self.image, 'class': name, 'score': score, 'is_tag': label in tags}
            for label, (name, score) in enumerate(
                zip(self.classes, self.scores.tolist(), strict=True)
            )
        ]

    def to_datasample(self) -> DataSample:
        """The result as MMPretrain has it, with ``tags`` and, if known, ``score_maps``."""
        sample = DataSample(metainfo={'img_path': self.image, 'ori_shape': self.size})
        if self.error is not None:
            sample.set_metainfo({'load_error': self.error})
        sample.set_pred_score(torch.from_numpy(self.scores))
        sample.set_pred_label(torch.from_numpy(self.labels))
        sample.set_field([self.classes[label] for label in self.labels], 'tags')
        if self.score_maps is not None:
            sample.set_field(torch.from_numpy(self.score_maps), 'score_maps')
        return sample


@dataclass(frozen=True, eq=False, repr=False)
class SegResult(ImageResult):
    """The mask of one image.

    Attributes:
        image: Its path or name.
        size: ``(H, W)`` in pixels; ``(0, 0)`` if it could not be read.
        classes: Name of each label.
        palette: RGB colour of each label, in [0, 255].
        mask: ``(H, W)`` uint8, labels; 255 is nothing.
        tags: Score of each tag by its name; the score is None where the model has
            none.
        background: Label of the background; None if there is none.
        error: What was wrong with the image; None if nothing.
        class_scores: The tagger's score of every class by its name; None if it was not asked
            for or there is no tagger.
        asked: The phrases that a segmentor asked for in this image, such as a
            :class:`~mmtagclip.models.ConceptSegmentor`, with the presence of each in [0, 1];
            None for other segmentors.
        instances: Things of the classes, each with its own mask; None if they were not asked for.
        source: The image, for drawings.

    Raises:
        ValueError: A mask of another size, or labels without a name.
    """

    image: str
    size: tuple[int, int]
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    mask: np.ndarray
    tags: dict[str, float | None]
    background: int | None = None
    error: str | None = None
    class_scores: Mapping[str, float] | None = None
    asked: Mapping[str, float] | None = None
    instances: tuple[Instance, ...] | None = None
    source: KeptImage | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.mask.shape != tuple(self.size):
            raise ValueError(f'mask must be {self.size}, as the image, not {self.mask.shape}')
        if len(self.palette) != len(self.classes):
            raise ValueError(f'{len(self.classes)} classes, but {len(self.palette)} colours')
        bad = [label for label in self.labels if label >= len(self.classes)]
        if bad:
            raise ValueError(
                f'the mask has the label {bad[0]}, but there are {len(self.classes)} classes'
            )

    def describe(self) -> dict[str, str]:
        """Share of the image that each class covers, from the largest on, in per cent."""
        return {name: f'{100 * share:.1f}%' for name, share in self.shares.items()}

    @property
    def record(self) -> ImageRecord:
        """Tags and scores, or the error, as they are stored."""
        if self.error is not None:
            return ImageRecord(self.image, error=self.error)
        return ImageRecord(
            self.image,
            tuple(self.tags),
            tuple(self.tags.values()),
            size=self.size,
            class_scores=self.class_scores,
            more=concept_fields(self.asked, self.instances),
        )

    @property
    def labels(self) -> list[int]:
        """Labels that occur in the mask, ascending."""
        return [label for label in label_counts(self.mask) if label != IGNORED]

    @property
    def shares(self) -> dict[str, float]:
        """Share of the image that each class covers, in [0, 1], from the largest on."""
        counts = label_counts(self.mask)
        counts.pop(IGNORED, None)
        order = sorted(counts, key=lambda label: -counts[label])
        return {self.classes[label]: counts[label] / self.mask.size for label in order}

    def binary_mask(self, name: str) -> np.ndarray:
        """``(H, W)`` bool, where a class is.

        Raises:
            KeyError: There is no such class.
        """
        if name not in self.classes:
            raise KeyError(f'{name!r} is not among the classes: {", ".join(self.classes)}')
        return self.mask == self.classes.index(name)

    def mask_png(self) -> bytes:
        """The mask as a PNG file of labels, with the palette."""
        return mask_png(self.mask, self.palette)

    def to_dict(self) -> dict[str, Any]:
        """JSON values: ``image``, ``tags``, ``size`` and ``masks``, or ``error``.

        ``masks`` is that of :func:`~mmtagclip.exports.jsonl.mask_entries`. Where they are known,
        also ``asked`` and ``instances``, see :func:`~mmtagclip.exports.instances.concept_fields`.
        """
        if self.error is not None:
            return self.record.to_dict()
        masks = mask_entries(self.mask, self.classes, self.background is not None)
        record = self.record
        return replace(record, more={**record.more, 'masks': masks}).to_dict()

    def to_json(self) -> str:
        """:meth:`to_dict` as one line."""
        return json.dumps(self.to_dict(), ensure_ascii=False)

    def rows(self) -> list[dict[str, Any]]:
        """One dict per class that occurs (``image``, ``tag``, ``score``, ``share``), for pandas."""
        return [
            {'image': self.image, 'tag': name, 'score': self.tags.get(name), 'share': share}
            for name, share in self.shares.items()
        ]

    def _tag_labels(self) -> list[int]:
        """Indices of the tags among the classes, the background not counted."""
        first = 0 if self.background is None else 1
        return [self.classes.index(tag) - first for tag in self.tags if tag in self.classes]

    def to_datasample(self) -> 'SegDataSample':
        """The result as MMSegmentation has it, with ``tags`` and, if known, ``tag_scores``."""
        from mmseg.structures import SegDataSample  # here: tags need no MMSegmentation

        sample = SegDataSample(
            metainfo={
                'img_path': self.image,
                'ori_shape': self.size,
                'tags': list(self.tags),
                'tag_labels': self._tag_labels(),
            }
        )
        if all(score is not None for score in self.tags.values()):
            sample.set_metainfo({'tag_scores': list(self.tags.values())})
        if self.error is not None:
            sample.set_metainfo({'load_error': self.error})
        mask = torch.from_numpy(self.mask.astype(np.int64))[None]
        sample.set_data({'pred_sem_seg': PixelData(data=mask)})
        if self.instances is not None:
            first = 0 if self.background is None else 1
            found = InstanceData(
                labels=torch.tensor(
                    [self.classes.index(one.tag) - first for one in self.instances]
                ).long(),
                scores=torch.tensor([one.score for one in self.instances]),
                masks=torch.from_numpy(
                    np.array([one.mask for one in self.instances]).reshape(-1, *self.size)
                ),
            )
            sample.set_data({'pred_instances': found})
        return sample
