"""A Parquet file: one row per image, with lists of tags and scores."""

import io
import json
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ..files import write_whole
from ..records import ImageRecord
from . import Format, Options
from .jsonl import mask_entries
from .results import Entry, Results, printable

ROWS = 1000


def write(results: Results, out: Path, options: Options, scratch: Path | None = None) -> None:
    """Write one file; ``class_scores`` are in the order of the classes.

    Class names are in the table's metadata, as JSON under ``classes``.
    """
    import pyarrow as pa
    from pyarrow import parquet

    columns = [pa.field('image', pa.string()), *result_fields(results.kind, results.all_scores)]
    schema = pa.schema(columns, metadata={'classes': json.dumps(results.classes)})
    buffer = io.BytesIO()
    with parquet.ParquetWriter(buffer, schema) as writer:
        rows = (_row(results, entry) for entry in results)
        while part := list(islice(rows, ROWS)):
            writer.write_table(pa.Table.from_pylist(part, schema=schema))
    write_whole(out, buffer.getvalue(), scratch=scratch)


def result_fields(kind: str, all_scores: bool) -> list[Any]:
    """The columns of a result, fields of Arrow.

    Args:
        kind: ``'tags'`` or ``'masks'``.
        all_scores: Whether there is the score of every class.
    """
    import pyarrow as pa

    columns = [
        ('height', pa.int32()),
        ('width', pa.int32()),
        ('tags', pa.list_(pa.string())),
        ('scores', pa.list_(pa.float64())),
        ('error', pa.string()),
    ]
    if all_scores:
        columns.append(('class_scores', pa.list_(pa.float64())))
    if kind == 'masks':
        runs = pa.struct([('size', pa.list_(pa.int32())), ('counts', pa.string())])
        mask = [
            ('tag', pa.string()),
            ('share', pa.float64()),
            ('box', pa.list_(pa.float64())),
            ('segmentation', runs),
        ]
        columns.append(('masks', pa.list_(pa.struct(mask))))
    return [pa.field(*column) for column in columns]


def result_row(
    record: ImageRecord,
    size: tuple[int, int] | None,
    mask: np.ndarray | None,
    labels: tuple[str, ...],
    with_background: bool,
) -> dict[str, Any]:
    """The values of the columns of :func:`result_fields` for one image.

    Args:
        record: Its tags, or why it could not be read.
        size: ``(H, W)`` in pixels; None if it could not be read.
        mask: ``(H, W)`` uint8, indices of ``labels``; None without masks.
        labels: Name of each label: the classes, with the background first, if there is one.
        with_background: Whether label 0 is the background.
    """
    height, width = size or (None, None)
    row: dict[str, Any] = {
        'height': height,
        'width': width,
        'tags': list(record.tags),
        'scores': list(record.scores or (None,) * len(record.tags)),
        'error': None if record.error is None else printable(record.error),
    }
    if record.class_scores is not None:
        classes = labels[int(with_background) :]
        row['class_scores'] = [record.class_scores.get(name) for name in classes]
    if mask is not None:
        row['masks'] = mask_entries(mask, labels, with_background)
    return row


def _row(results: Results, entry: Entry) -> dict[str, Any]:
    """The row of an image."""
    row = result_row(entry.record, entry.size, entry.mask, results.labels, results.with_background)
    return {'image': printable(entry.record.image), **row}


FORMAT = Format(
    'parquet',
    'one row per image, for pandas and others',
    write,
    '.parquet',
    scratch=True,
    needs=('pyarrow', 'parquet'),
)
