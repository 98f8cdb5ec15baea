"""A table: one row per tag."""

import csv
import io
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from ..files import write_whole
from ..labels import IGNORED, label_counts
from . import Format, Options
from .results import Entry, Results


def write(results: Results, out: Path, options: Options, scratch: Path | None = None) -> None:
    """Write one file.

    Every image has a row: one without tags has a single row without a tag, and one that could not
    be read says so under ``error``. Masks have a row per class that occurs, the background too, and
    the ``share`` of the image that it covers. With the scores of all classes there is a row per
    ``class``, and ``is_tag``.
    """
    first = ('class', 'score', 'is_tag') if results.all_scores else ('tag', 'score')
    share = ['share'] if results.kind == 'masks' else []
    write_whole(out, _lines(results, ['image', *first, *share, 'error']), scratch=scratch)


def _lines(results: Results, names: list[str]) -> Iterator[bytes]:
    header: list[dict[str, Any]] = [dict(zip(names, names, strict=True))]
    for rows in chain([header], (rows_of(entry, results) for entry in results)):
        text = io.StringIO()
        csv.DictWriter(text, names, lineterminator='\n').writerows(rows)
        yield text.getvalue().encode(errors='backslashreplace')


def rows_of(entry: Entry, results: Results) -> list[dict[str, Any]]:
    """Rows of an image."""
    image, scores = entry.record.image, entry.scores
    if entry.record.error is not None:
        return [{'image': image, 'error': entry.record.error}]
    shares = {}
    if entry.mask is not None:
        counts = label_counts(entry.mask)
        counts.pop(IGNORED, None)
        for label in sorted(counts, key=lambda label: -counts[label]):
            shares[results.labels[label]] = counts[label] / entry.mask.size
    if results.all_scores:
        known = entry.record.class_scores or {}
        return [
            {
                'image': image,
                'class': name,
                'score': known.get(name),
                'is_tag': name in scores,
                **({} if entry.mask is None else {'share': shares.get(name, 0.0)}),
            }
            for name in results.labels
        ]
    if entry.mask is None:
        rows = [{'image': image, 'tag': tag, 'score': score} for tag, score in scores.items()]
    else:
        rows = [
            {'image': image, 'tag': tag, 'score': scores.get(tag), 'share': share}
            for tag, share in shares.items()
        ]
    return rows or [{'image': image}]


FORMAT = Format('csv', 'one row per tag', write, '.csv', scratch=True)
