"""JSON lines: one per image, with the run lengths of its masks."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..files import write_whole
from ..records import encode_line
from . import Format, Options
from .regions import class_regions, run_lengths
from .results import Results


def write(results: Results, out: Path, options: Options, scratch: Path | None = None) -> None:
    """Write one file."""
    write_whole(out, _lines(results), scratch=scratch)


def _lines(results: Results) -> Iterator[bytes]:
    for entry in results:
        record = entry.record.to_dict()
        if entry.mask is not None:
            record['masks'] = mask_entries(entry.mask, results.labels, results.with_background)
        yield encode_line(json.dumps(record, ensure_ascii=False))


def mask_entries(mask: Any, labels: tuple[str, ...], with_background: bool) -> list[dict[str, Any]]:
    """What a line says of each class that occurs, but the background; the largest first.

    Args:
        mask: ``(H, W)`` uint8 labels.
        labels: Name of each label.
        with_background: Whether label 0 is the background.

    Returns:
        ``tag``, ``share`` of the image, ``box`` (left, top, width, height in pixels) and
        ``segmentation``, run lengths as COCO has them.
    """
    return [
        {
            'tag': labels[region.label],
            'share': region.area / mask.size,
            'box': [float(side) for side in region.box],
            'segmentation': run_lengths(region, mask.shape),
        }
        for region in class_regions(mask, 0 if with_background else None)
    ]


FORMAT = Format('jsonl', 'one line per image', write, '.jsonl', scratch=True)
