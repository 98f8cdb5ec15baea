"""COCO's JSON: images, categories and annotations."""

import json
from pathlib import Path
from typing import Any

from ..files import write_whole
from ..records import encode_line
from ..version import __version__
from . import Format, Options
from .regions import class_regions, connected_regions, run_lengths
from .results import Entry, Results


def write(results: Results, out: Path, options: Options, scratch: Path | None = None) -> None:
    """Write one file.

    A tag has no place in its image, so its box is the whole image. Images that could not be read
    are under ``errors``, not among the images.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    errors: list[dict[str, Any]] = []
    for entry in results:
        if entry.size is None:
            errors.append({'file_name': entry.file_name, 'error': entry.record.error})
            continue
        image_id = len(images) + 1
        height, width = entry.size
        images.append(
            {'id': image_id, 'file_name': entry.file_name, 'height': height, 'width': width}
        )
        for found in _found(results, entry, options):
            first = {'id': len(annotations) + 1, 'image_id': image_id}
            annotations.append({**first, **found, 'iscrowd': 0})
    content = {
        'info': {'description': f'results of mmtagclip {__version__}'},
        'licenses': [],
        'images': images,
        'categories': [
            {'id': number, 'name': name, 'supercategory': ''}
            for number, name in enumerate(results.classes, start=1)
        ],
        'annotations': annotations,
        'errors': errors,
    }
    write_whole(out, encode_line(json.dumps(content, ensure_ascii=False)), scratch=scratch)


def _found(results: Results, entry: Entry, options: Options) -> list[dict[str, Any]]:
    """Annotations of an image, without their ids."""
    size, scores = entry.size, entry.scores
    assert size is not None
    if entry.mask is None:
        height, width = size
        shapes: list = [
            (tag, {'bbox': [0, 0, width, height], 'area': height * width, 'segmentation': []})
            for tag in scores
        ]
    else:
        background = 0 if results.with_background else None
        whole = options.shapes in (None, 'masks')
        shapes = []
        for region in (
            class_regions(entry.mask, background)
            if whole
            else connected_regions(entry.mask, background, options.min_area)
        ):
            shape: dict[str, Any] = {'bbox': list(region.box), 'area': region.area}
            if whole:
                shape['segmentation'] = run_lengths(region, size)
            elif options.shapes == 'polygons':
                corners = region.outline(options.tolerance)
                shape['segmentation'] = [[side for corner in corners for side in corner]]
            else:
                shape['segmentation'] = []
            shapes.append((results.labels[region.label], shape))
    found = []
    for tag, shape in shapes:
        score = scores.get(tag)
        known = {} if score is None else {'score': score}
        found.append({'category_id': results.classes.index(tag) + 1, **known, **shape})
    return found


FORMAT = Format(
    'coco',
    "images, categories and annotations in COCO's layout",
    write,
    '.json',
    shapes=('masks', 'polygons', 'boxes'),
    scratch=True,
)
