"""Which classes of an image become tags: the one rule that turns scores into tags."""

from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, NamedTuple

from .thresholds import ClassThresholds

if TYPE_CHECKING:  # checking options needs no torch
    from torch import Tensor


class Tag(NamedTuple):
    """A class that an image shows.

    Attributes:
        label: Index of the class.
        score: Its score; None for tags without one (given tags, tags of a mask).
    """

    label: int
    score: float | None


@dataclass(frozen=True)
class TagRule:
    """Turns the scores of an image into tags.

    A class becomes a tag if its score is above a share of the image's own range of scores
    (:func:`relative_threshold`), at least ``min_score``, and among the ``top`` highest.

    Attributes:
        threshold: ``k`` of :func:`relative_threshold`, in [0, 1].
        min_score: Lowest score of a tag, in [0, 1]. Above 0, an image may have no tag.
        top: Most tags of an image; any number if None. Of equal scores, the first in the
            order of the classes counts.
        thresholds: Of single classes, in place of ``threshold`` and, where absolute, of
            ``min_score``; None for none.

    Raises:
        TypeError: A value of another type.
        ValueError: A value is out of range.
    """

    threshold: float = 0.5
    min_score: float = 0.0
    top: int | None = None
    thresholds: ClassThresholds | None = None

    def __post_init__(self) -> None:
        for key in ('threshold', 'min_score'):
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, Real):
                raise TypeError(f'{key} must be a number in [0, 1], not {value!r}')
            if not 0 <= float(value) <= 1:
                raise ValueError(f'{key} must be in [0, 1], not {value}')
        own = self.thresholds
        if own is not None and not isinstance(own, ClassThresholds):
            raise TypeError(f'thresholds must be ClassThresholds, not {own!r}')
        if self.top is None:
            return
        if isinstance(self.top, bool) or not isinstance(self.top, Integral):
            raise TypeError(f'top must be a whole number, not {self.top!r}')
        if self.top < 1:
            raise ValueError(f'top must be at least 1, not {self.top}')

    def but(self, **options: Any) -> 'TagRule':
        """The same rule with other values; what is None stays.

        Args:
            **options: Attributes of this class.
        """
        return replace(self, **{key: one for key, one in options.items() if one is not None})

    def labels(self, scores: 'Tensor') -> 'Tensor':
        """Indices ``(T,)`` int64 of the tags, ascending.

        Args:
            scores: ``(F,)``.
        """
        return self.mask(scores).nonzero().flatten()

    def tags(self, scores: 'Tensor') -> list[Tag]:
        """The tags of one image, in the order of the classes.

        Args:
            scores: ``(F,)``.
        """
        labels = self.labels(scores)
        return [Tag(*tag) for tag in zip(labels.tolist(), scores[labels].tolist(), strict=True)]

    def mask(self, scores: 'Tensor') -> 'Tensor':
        """Which classes are tags, ``(..., F)`` bool.

        Args:
            scores: ``(..., F)``.
        """
        if not scores.shape[-1]:
            return scores.bool()
        tags = relative_threshold(scores, self.threshold) & (scores >= self.min_score)
        if self.thresholds is not None:
            tags = self.thresholds.mask(tags, scores, self.min_score)
        if self.top is not None and self.top < scores.shape[-1]:
            found = scores.masked_fill(~tags, float('-inf'))
            order = found.sort(dim=-1, descending=True, stable=True).indices
            tags.scatter_(-1, order[..., self.top :], False)
        return tags


def relative_threshold(scores: 'Tensor', k: float) -> 'Tensor':
    """Which classes score above a share of the image's own range of scores.

    Args:
        scores: ``(..., F)``.
        k: Classes score above ``min + k * (max - min)``.

    Returns:
        ``(..., F)`` bool; where none is above it, as if all are equal, the first of the highest.
    """
    low, high = scores.amin(-1, keepdim=True), scores.amax(-1, keepdim=True)
    tags = scores > low + k * (high - low)
    highest = scores == high
    first = highest & (highest.cumsum(-1) == 1)
    return tags | (first & ~tags.any(-1, keepdim=True))
