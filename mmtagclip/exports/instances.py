"""Instances: one thing of a class each, with its own mask and score."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..labels import decode_runs
from ..records import ImageRecord
from .regions import Region, crop, run_lengths


@dataclass(frozen=True, eq=False)
class Instance:
    """One thing of a class.

    Attributes:
        tag: Name of its class.
        score: In [0, 1].
        mask: ``(H, W)`` bool, at least one pixel.
    """

    tag: str
    score: float
    mask: np.ndarray

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        same = (self.tag, self.score) == (other.tag, other.score)
        return same and np.array_equal(self.mask, other.mask)

    def __hash__(self) -> int:
        return hash((self.tag, self.score, self.region.box))

    @property
    def region(self) -> Region:
        """Its pixels, with their box; the label is 0."""
        return crop(self.mask, 0)

    def to_dict(self) -> dict[str, Any]:
        """JSON values: ``tag``, ``score``, ``box`` and ``segmentation``.

        ``box`` is left, top, width and height in pixels, ``segmentation`` COCO's run lengths.
        """
        region = self.region
        return {
            'tag': self.tag,
            'score': self.score,
            'box': [float(side) for side in region.box],
            'segmentation': run_lengths(region, self.mask.shape),
        }


def concept_fields(
    asked: Mapping[str, float] | None, instances: Sequence[Instance] | None
) -> dict[str, Any]:
    """Further keys of an image's record, JSON values.

    Args:
        asked: The phrases that were asked for, with the presence of each; None if not known.
        instances: Those that were found; None if they were not asked for.

    Returns:
        ``asked`` and ``instances`` (see :meth:`Instance.to_dict`), as far as they are known.
    """
    fields: dict[str, Any] = {}
    if asked is not None:
        fields['asked'] = dict(asked)
    if instances is not None:
        fields['instances'] = [one.to_dict() for one in instances]
    return fields


def read_instances(record: ImageRecord) -> list[Instance] | None:
    """The instances of a record; None if it says nothing of any.

    Raises:
        ValueError: They are damaged; the message names the image.
    """
    found = record.more.get('instances')
    if found is None or record.size is None:
        return None
    try:
        return [_instance(one, record.size) for one in found]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f'{record.image} has damaged instances: {error}') from None


def _instance(found: Mapping[str, Any], size: tuple[int, int]) -> Instance:
    mask = decode_runs(found['segmentation'], size)
    if not mask.any():
        raise ValueError('one has no pixel')
    if not isinstance(found['tag'], str):
        raise TypeError(f'"tag" must be a string, not {found["tag"]!r}')
    return Instance(found['tag'], float(found['score']), mask)


def instances_of(sample: Any, names: Sequence[str]) -> tuple[Instance, ...] | None:
    """The ``pred_instances`` of a data sample; None if it has none.

    Args:
        sample: What a segmentor filled.
        names: Names of the classes, without the background.
    """
    found = sample.get('pred_instances')
    if found is None:
        return None
    rows = zip(found.labels.tolist(), found.scores.tolist(), found.masks.numpy(), strict=True)
    return tuple(Instance(names[label], score, mask) for label, score, mask in rows)
