"""A Parquet file: one row per image, with lists of tags and scores."""

import io
import json
from collections.abc import Iterable, Iterator
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

    columns = [pa.field('image', pa.string()), *result_fields(results.kind, results.all_scores)]
    schema = pa.schema(columns, metadata={'classes': json.dumps(results.classes)})
    rows = (_row(results, entry) for entry in results)
    parts = iter(lambda: list(islice(rows, ROWS)), [])
    tables = (pa.Table.from_pylist(part, schema=schema) for part in parts)
    write_whole(out, parquet_content(tables, schema), scratch=scratch)


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


class _Sink(io.RawIOBase):
    """A file whose bytes are taken out as they come."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.place = 0

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        part = bytes(content)
        self.parts.append(part)
        self.place += len(part)
        return len(part)

    def tell(self) -> int:
        return self.place

    def take(self) -> list[bytes]:
        parts, self.parts = self.parts, []
        return parts


def parquet_content(tables: Iterable[Any], schema: Any) -> Iterator[bytes]:
    """The bytes of a Parquet file, part by part; each table becomes a row group."""
    from pyarrow import parquet

    sink = _Sink()
    with parquet.ParquetWriter(sink, schema) as writer:
        for table in tables:
            writer.write_table(table)
            yield from sink.take()
    yield from sink.take()


FORMAT = Format(
    'parquet',
    'one row per image, for pandas and others',
    write,
    '.parquet',
    scratch=True,
    needs=('pyarrow', 'parquet'),
)
