"""A threshold for each class, from images whose tags are known, and how sure it is."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..datasets.image_index import ImageIndex
from ..datasets.own_labels import read_tags
from ..datasets.tag_file import read_tag_file
from ..exports import open_results
from ..files import write_whole
from ..models.taggers.thresholds import KINDS, NOTES

LEVEL = 0.95  # of the intervals


class ScoreTable(NamedTuple):
    """Scores of images.

    Attributes:
        classes: Names of the F classes.
        images: Path of each of the n images.
        scores: ``(n, F)`` float32.
    """

    classes: tuple[str, ...]
    images: list[str]
    scores: np.ndarray

    def relative(self) -> 'ScoreTable':
        """The scores as shares of the range of their image; 0 where all are equal."""
        low, high = (one(self.scores, axis=1, keepdims=True) for one in (np.min, np.max))
        span = np.where(high > low, high - low, 1)
        return self._replace(scores=(self.scores - low) / span)


@dataclass(frozen=True)
class ClassThreshold:
    """The threshold of a class, and what it does to the labelled images.

    The intervals are exact binomial ones (Clopper and Pearson) of 95 %. They count images, as if
    the threshold had been given; it was chosen on these images, so both numbers are rather
    flattered.

    Attributes:
        tag: The class.
        threshold: A tag scores above this; None if no image tells.
        positives: Labelled images that show the class.
        images: Labelled images.
        precision: Share of the tags that are right; None without a tag.
        precision_interval: Its lowest and highest value.
        recall: Share of the images with the class that get the tag; None without any.
        recall_interval: The same.
        f1: Harmonic mean of both.
        note: What there is to say; empty if nothing.
    """

    tag: str
    threshold: float | None
    positives: int
    images: int
    precision: float | None = None
    precision_interval: tuple[float, float] = (0.0, 1.0)
    recall: float | None = None
    recall_interval: tuple[float, float] = (0.0, 1.0)
    f1: float | None = None
    note: str = ''


def read_scores(path: str | Path) -> ScoreTable:
    """Read the scores of all classes from results of ``mmtagclip tag --all-scores``.

    Args:
        path: The ``.jsonl`` file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds no results, or not the scores of every class, or of other classes in
            other images.
    """
    rows: dict[str, list[float]] = {}
    classes: tuple[str, ...] | None = None
    for entry in open_results(path):
        if entry.record.error is not None:
            continue
        found = entry.record.class_scores
        if not found:
            raise ValueError(
                f'{path} has only the scores of the tags: make it with mmtagclip tag --all-scores'
            )
        classes = tuple(found) if classes is None else classes
        if set(classes) != found.keys():
            raise ValueError(
                f'{path} has scores of other classes in {entry.record.image} than in the image '
                'before: give results of one list of names'
            )
        rows[entry.record.image] = [found[name] for name in classes]
    if classes is None:
        raise ValueError(f'{path} has no image that could be read')
    scores = np.array(list(rows.values()), np.float32)
    return ScoreTable(classes, list(rows), scores)


def read_labels(
    table: ScoreTable, source: str | Path, folder: str | Path | None = None
) -> tuple[list[int], np.ndarray, list[bool]]:
    """Read the labels of images that have scores.

    Args:
        table: The scores.
        source: A tag file (``.jsonl``, ``.txt``), such as results of ``mmtagclip tag`` that were
            corrected by hand; or labels in a format of
            :mod:`mmtagclip.datasets.own_labels`, such as a COCO ``.json``.
        folder: Of the images, for the latter.

    Returns:
        Indices of the m labelled images in the table, ``(m, F)`` bool, and for each class
        whether the labels know it.

    Raises:
        FileNotFoundError: There is no such file or folder.
        ValueError: The labels are in no known format, have an unknown class, an image without
            scores, or no image at all.
    """
    source = Path(source)
    known = set(table.classes)
    if source.suffix in ('.jsonl', '.txt') and source.is_file():
        records = read_tag_file(source, table.classes)
        entries = [(record.image, record.labels) for record in records]
    else:
        if folder is None:
            raise ValueError(f'{source} is no tag file (.jsonl): name the folder of its images')
        tags = read_tags(folder, source)
        unknown = [name for name in tags.classes if name not in table.classes]
        if unknown:
            raise ValueError(
                f'{source} has the class {unknown[0]!r}, which has no scores; those with scores '
                f'are {", ".join(table.classes[:5])}...'
            )
        order = [table.classes.index(name) for name in tags.classes]
        known = set(tags.classes)
        entries = [
            (image, tuple(order[label] for label in labels))
            for image, labels in zip(tags.images, tags.labels, strict=True)
        ]
    if not entries:
        raise ValueError(f'{source} has no image with labels')
    index = ImageIndex(
        'the file of scores', ((image, row) for row, image in enumerate(table.images))
    )
    places = [index.find(image) for image, _ in entries]
    if len(set(places)) < len(places):
        raise ValueError(f'{source} has labels of one image twice')
    labels = np.zeros((len(places), len(table.classes)), bool)
    for row, (_, tags_of) in zip(labels, entries, strict=True):
        row[list(tags_of)] = True
    return places, labels, [name in known for name in table.classes]


def choose_thresholds(
    table: ScoreTable,
    places: Sequence[int],
    labels: np.ndarray,
    known: Sequence[bool],
    precision: float | None = None,
) -> list[ClassThreshold]:
    """Choose a threshold for each class.

    Args:
        table: The scores.
        places: Indices of the m labelled images in it.
        labels: ``(m, F)`` bool.
        known: Whether the labels know each class; others get no threshold.
        precision: Lowest precision that is wanted, in (0, 1]; of the thresholds that have it, the
            one with the most images found. The best F1 if None.

    Raises:
        ValueError: The precision is out of range.
    """
    if precision is not None and not 0 < precision <= 1:
        raise ValueError(f'the wanted precision must be in (0, 1], not {precision}')
    scores = table.scores[list(places)]
    return [
        _choose(name, scores[:, label], labels[:, label], precision)
        if known[label]
        else ClassThreshold(name, None, 0, 0, note='not among the classes of the labels')
        for label, name in enumerate(table.classes)
    ]


def _choose(
    tag: str, scores: np.ndarray, labels: np.ndarray, wanted: float | None
) -> ClassThreshold:
    positives, images = int(labels.sum()), len(labels)
    if not positives:
        return ClassThreshold(tag, None, 0, images, note='no labelled image shows it')
    order = np.argsort(-scores, kind='stable')
    values, right = scores[order], labels[order].cumsum()
    count = np.arange(1, images + 1)
    following = np.append(values[1:], np.float32(0))
    # Images of equal scores are above a threshold together; no threshold is below 0.
    cut = (following < values).nonzero()[0]
    share, recall = right[cut] / count[cut], right[cut] / positives
    f1 = 2 * right[cut] / (count[cut] + positives)
    ranks = f1 if wanted is None else np.where(share >= wanted, recall, -1.0)
    if not len(cut) or ranks.max() < 0:
        note = 'never a tag: no threshold has the precision'
        return ClassThreshold(tag, 1.0, positives, images, None, (0, 1), 0.0, (0, 1), 0.0, note)
    best = int(ranks.argmax())  # the highest threshold of equal ones
    place = cut[best]
    hits, tags = int(right[place]), int(count[place])
    return ClassThreshold(
        tag,
        _between(following[place], values[place]),
        positives,
        images,
        hits / tags,
        binomial_interval(hits, tags),
        hits / positives,
        binomial_interval(hits, positives),
        float(f1[best]),
        f'only {positives} labelled images show it' if positives < 5 else '',
    )


def _between(low: np.float32, high: np.float32) -> float:
    """A float32 that is at least ``low`` and below ``high``, and in [0, 1]."""
    middle = np.float32((max(float(low), 0.0) + float(high)) / 2)
    return min(float(middle if middle < high else low), 1.0)


def binomial_interval(hits: int, count: int, level: float = LEVEL) -> tuple[float, float]:
    """The exact interval of a share (Clopper and Pearson).

    Args:
        hits: How many of ``count``.
        count: How many there were.
        level: How often such an interval holds the true share, at least.

    Returns:
        Its lowest and highest value; (0, 1) for a count of 0.
    """
    rest = (1 - level) / 2
    low = _share(lambda share: _at_least(hits, count, share) < rest) if hits else 0.0
    high = (
        _share(lambda share: 1 - _at_least(hits + 1, count, share) > rest) if hits < count else 1.0
    )
    return low, high


def _share(is_below: 'object') -> float:
    """Where a condition on a share in [0, 1] stops to hold."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if is_below(middle) else (low, middle)  # type: ignore[operator]
    return (low + high) / 2


def _at_least(hits: int, count: int, share: float) -> float:
    """The probability of at least so many hits."""
    if share in (0.0, 1.0):
        return float(share == 1.0 or hits == 0)
    whole = math.lgamma(count + 1)
    return math.fsum(
        math.exp(
            whole
            - math.lgamma(one + 1)
            - math.lgamma(count - one + 1)
            + one * math.log(share)
            + (count - one) * math.log1p(-share)
        )
        for one in range(hits, count + 1)
    )


def write_thresholds(
    path: str | Path, thresholds: Sequence[ClassThreshold], kind: str = 'absolute'
) -> None:
    """Write thresholds as a table that ``thresholds=`` and ``--thresholds`` read.

    Args:
        path: The ``.csv`` file; it appears whole.
        thresholds: Of the classes.
        kind: ``'absolute'`` or ``'relative'``.

    Raises:
        ValueError: Another kind.
    """
    if kind not in KINDS:
        raise ValueError(f'thresholds are absolute or relative, not {kind!r}')
    rows: list[Sequence[object]] = [('tag', kind, *NOTES)]
    for one in thresholds:
        shown = [one.precision, *one.precision_interval, one.recall, *one.recall_interval, one.f1]
        if one.precision is None:
            shown = [None] * len(shown)
        numbers = ['' if value is None else f'{value:.3f}' for value in shown]
        own = '' if one.threshold is None else repr(one.threshold)
        rows.append((one.tag, own, one.positives, one.images, *numbers, one.note))
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator='\n').writerows(rows)
    write_whole(path, buffer.getvalue().encode())
