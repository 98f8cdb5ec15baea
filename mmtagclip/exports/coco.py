"""COCO's JSON: images, categories and annotations."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from ..files import write_whole
from ..records import encode_line
from ..version import __version__
from . import Format, Options
from .instances import read_instances
from .regions import Region, class_regions, connected_regions, run_lengths
from .results import Entry, Results


def write(results: Results, out: Path, options: Options, scratch: Path | None = None) -> None:
    """Write one file.

    Where results have instances, each is an annotation with its own score; otherwise all pixels
    of a class are. A tag has no place in its image, so its box is the whole image. Images that
    could not be read are under ``errors``, not among the images.
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
    instances = read_instances(entry.record)
    shapes: list[tuple[str, float | None, dict[str, Any]]] = []
    if instances is not None:
        for one in instances:
            mask = one.mask.astype(np.uint8)
            parts = [] if options.shapes is None else connected_regions(mask, 0, options.min_area)
            shape = _shape(one.region, list(parts), size, options)
            if shape is not None:
                shapes.append((one.tag, one.score, shape))
    elif entry.mask is None:
        height, width = size
        whole = {'bbox': [0, 0, width, height], 'area': height * width, 'segmentation': []}
        shapes = [(tag, score, dict(whole)) for tag, score in scores.items()]
    else:
        background = 0 if results.with_background else None
        for region in (
            class_regions(entry.mask, background)
            if options.shapes in (None, 'masks')
            else connected_regions(entry.mask, background, options.min_area)
        ):
            shape = _shape(region, [region], size, options)
            if shape is not None:
                tag = results.labels[region.label]
                shapes.append((tag, scores.get(tag), shape))
    found = []
    for tag, score, shape in shapes:
        known = {} if score is None else {'score': score}
        found.append({'category_id': results.classes.index(tag) + 1, **known, **shape})
    return found


def _shape(
    region: Region, parts: list[Region], size: tuple[int, int], options: Options
) -> dict[str, Any] | None:
    """Box, area and segmentation of a region; None if all its parts were too small.

    Args:
        region: The region.
        parts: What of it is connected, for polygons.
        size: ``(H, W)`` of the image.
        options: What it becomes.
    """
    shape: dict[str, Any] = {'bbox': list(region.box), 'area': region.area}
    if options.shapes in (None, 'masks'):
        return {**shape, 'segmentation': run_lengths(region, size)}
    if not parts:
        return None
    shape['segmentation'] = []
    if options.shapes == 'polygons':
        outlines = [part.outline(options.tolerance) for part in parts]
        shape['segmentation'] = [[side for corner in one for side in corner] for one in outlines]
    return shape


FORMAT = Format(
    'coco',
    "images, categories and annotations in COCO's layout",
    write,
    '.json',
    shapes=('masks', 'polygons', 'boxes'),
    scratch=True,
)
