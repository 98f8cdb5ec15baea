"""A Parquet file: one row per image, with lists of tags and scores."""

import io
import json
from itertools import islice
from pathlib import Path
from typing import Any

from ..files import write_whole
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

    columns = [
        ('image', pa.string()),
        ('height', pa.int32()),
        ('width', pa.int32()),
        ('tags', pa.list_(pa.string())),
        ('scores', pa.list_(pa.float64())),
        ('error', pa.string()),
    ]
    if results.all_scores:
        columns.append(('class_scores', pa.list_(pa.float64())))
    if results.kind == 'masks':
        runs = pa.struct([('size', pa.list_(pa.int32())), ('counts', pa.string())])
        mask = [
            ('tag', pa.string()),
            ('share', pa.float64()),
            ('box', pa.list_(pa.float64())),
            ('segmentation', runs),
        ]
        columns.append(('masks', pa.list_(pa.struct(mask))))
    schema = pa.schema(columns, metadata={'classes': json.dumps(results.classes)})
    buffer = io.BytesIO()
    with parquet.ParquetWriter(buffer, schema) as writer:
        rows = (_row(results, entry) for entry in results)
        while part := list(islice(rows, ROWS)):
            writer.write_table(pa.Table.from_pylist(part, schema=schema))
    write_whole(out, buffer.getvalue(), scratch=scratch)


def _row(results: Results, entry: Entry) -> dict[str, Any]:
    """The row of an image."""
    record = entry.record
    height, width = entry.size or (None, None)
    row: dict[str, Any] = {
        'image': printable(record.image),
        'height': height,
        'width': width,
        'tags': list(entry.scores),
        'scores': list(entry.scores.values()),
        'error': None if record.error is None else printable(record.error),
    }
    if record.class_scores is not None:
        row['class_scores'] = [record.class_scores.get(name) for name in results.classes]
    if entry.mask is not None:
        row['masks'] = mask_entries(entry.mask, results.labels, results.with_background)
    return row


FORMAT = Format(
    'parquet',
    'one row per image, for pandas and others',
    write,
    '.parquet',
    scratch=True,
    needs=('pyarrow', 'parquet'),
)
