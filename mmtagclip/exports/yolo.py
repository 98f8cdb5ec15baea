"""YOLO's folders, as Ultralytics reads them: to segment, to detect, or to classify."""

import json
import re
from pathlib import Path

from ..files import make_folder
from ..images import all_different
from . import Format, Options
from .folders import Folder
from .regions import connected_regions
from .results import Entry, Results


def write(results: Results, out: Path, options: Options) -> None:
    """Write ``images``, ``labels`` and ``data.yaml`` of masks, or a folder per class of tags.

    A line of ``labels`` is the number of a class, from 0, and the corners of a region's outline,
    or with boxes its centre, width and height, as shares of the image. Holes are filled. An image
    with several tags is of the class with the highest score; those without tags are left out.

    A folder ``images`` of the user's is called ``images_``: readers look for labels where the last
    folder ``images`` of an image's path becomes ``labels``.

    Raises:
        FileExistsError: The folder has files of other results.
        ValueError: A class name can't be the name of a folder.
    """
    folder = Folder(out, options)
    if results.kind == 'tags':
        _classification(results, folder)
    else:
        for entry in results:
            if entry.mask is None:
                continue
            # ``images_`` becomes ``images__``, so that no two names become the same.
            stem = re.sub('(?<![^/])images_*(?=/)', r'\g<0>_', entry.stem)
            folder.image(f'images/{stem}{entry.path.suffix}', entry)
            folder.write(f'labels/{stem}.txt', _lines(results, entry, options).encode())
        folder.write('data.yaml', _description(results, out).encode())
    folder.close('images', 'labels', 'train')


def _classification(results: Results, folder: Folder) -> None:
    for name in results.classes:
        if name in ('.', '..') or {'/', '\\', '\0'} & set(name):
            raise ValueError(f'the class {name!r} can not be the name of a folder')
        # Each class has a folder, so that its number does not depend on the images.
        make_folder((folder.root / 'train' / name).absolute())
    tagged = [entry for entry in results if entry.scores]
    names = all_different([entry.stem.replace('/', '_') for entry in tagged])
    for entry, name in zip(tagged, names, strict=True):
        best = max(entry.scores, key=lambda tag: entry.scores[tag] or 0.0)
        folder.image(f'train/{best}/{name}{entry.path.suffix}', entry)


def _lines(results: Results, entry: Entry, options: Options) -> str:
    assert entry.mask is not None
    height, width = entry.mask.shape
    first = int(results.with_background)
    lines = []
    for region in connected_regions(entry.mask, 0 if first else None, options.min_area):
        if options.shapes == 'boxes':
            left, top, wide, high = region.box
            numbers = [
                (left + wide / 2) / width,
                (top + high / 2) / height,
                wide / width,
                high / height,
            ]
        else:
            corners = region.outline(options.tolerance)
            numbers = [share for x, y in corners for share in (x / width, y / height)]
        lines.append(f'{region.label - first} {" ".join(f"{one:.6f}" for one in numbers)}\n')
    return ''.join(lines)


def _description(results: Results, out: Path) -> str:
    """``data.yaml``; JSON strings are YAML's, too."""
    names = ''.join(
        f'  {number}: {json.dumps(name, ensure_ascii=False)}\n'
        for number, name in enumerate(results.classes)
    )
    return (
        f'path: {json.dumps(str(out.absolute()), ensure_ascii=False)}\n'
        'train: images\n'
        'val: images  # put images apart to measure a model that was trained on the others\n'
        f'names:\n{names}'
    )


FORMAT = Format(
    'yolo',
    "a folder in YOLO's layout: segmentation or detection from masks, classification from tags",
    write,
    shapes=('polygons', 'boxes'),
)
