"""Labels of the user's own images, in the formats that people have.

What a path means:

- ``.json``: a COCO instances file. The tags of an image are the categories of its annotations.
- ``.csv``: a table with a header. With the columns ``image`` and ``tag``, one row per tag; an image
  without tags has one row with an empty tag. A column ``score`` is ignored, and so is a row with
  an ``error``. With the columns ``image`` and one per class, one row per image; each cell is 0
  or 1.
- ``.yaml`` or ``.yml``: YOLO's ``data.yaml``, of which only ``names`` is used.
- a folder with YOLO's label files (``.txt``), or with one index mask (``.png``) per image, named
  after the images; label 0 of a mask is the background, 255 is ignored.
- the folder of the images itself: each folder in it is a class.
"""

import csv
import io
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from ..clip import Vocabulary
from ..clip.class_files import PlainLoader
from ..files import read_text, split_lines
from ..images import image_stem, images_below, read_index_mask
from ..labels import IGNORED
from .coco import read_coco
from .image_index import ImageIndex

IMAGE_COLUMNS = ('image', 'file_name', 'filename')


class ImageTags(NamedTuple):
    """Tags of images.

    Attributes:
        classes: Names of the C classes.
        images: Path of each image.
        labels: Indices of its classes, ascending.
    """

    classes: tuple[str, ...]
    images: list[str]
    labels: list[list[int]]


def read_tags(
    folder: str | Path,
    source: str | Path,
    classes: str | Path | Sequence | Vocabulary | None = None,
) -> ImageTags:
    """Read the labels of a folder of images as tags.

    Args:
        folder: The folder.
        source: The labels, see the module.
        classes: Names, for YOLO's label files without a ``data.yaml`` and for masks.

    Raises:
        FileNotFoundError: There is no such file or folder, or no image.
        ValueError: The labels are in no known format, name an image that is not there or an
            unknown class, or have names while ``classes`` was given, or none while it was not.
    """
    folder, source = Path(folder), Path(source)
    if not source.exists():
        raise FileNotFoundError(f'there are no labels at {source}')
    paths, _ = images_below(folder)
    if source.is_dir():
        if source.resolve() == folder.resolve():
            return _of_folders(folder, paths, classes)
        if any(source.rglob('*.txt')):
            return _of_yolo(source, paths, _given(source, classes), _beside(folder, source))
        if any(source.rglob('*.png')):
            return _of_masks(folder, source, paths, _given(source, classes))
        raise ValueError(f'{source} has neither label files (.txt) nor masks (.png)')
    if source.suffix in ('.yaml', '.yml'):
        _not_given(source, classes)
        return _of_yolo(source, paths, _yolo_names(source), _yolo_label_file)
    if source.suffix not in ('.json', '.csv'):
        raise ValueError(
            f'{source} has no known format of labels: give a COCO .json, a .csv, a data.yaml of '
            'YOLO, or a folder of YOLO labels or masks'
        )
    _not_given(source, classes)
    names, entries = _of_coco(source) if source.suffix == '.json' else _of_csv(source)
    return _located(folder, source, paths, names, entries)


def _given(source: Path, classes: Any) -> tuple[str, ...]:
    if classes is None:
        raise ValueError(f'the labels in {source} are numbers: name the classes, in their order')
    return Vocabulary.load(classes).names


def _not_given(source: Path, classes: Any) -> None:
    if classes is not None:
        raise ValueError(
            f'{source} names its classes itself; to word prompts in another way, change the '
            "model's classes"
        )


def _located(
    folder: Path,
    source: Path,
    paths: Sequence[Path],
    classes: Sequence[str],
    entries: Mapping[str, set[int]],
) -> ImageTags:
    """The files that named images are."""
    index = ImageIndex(folder, ((str(path.relative_to(folder)), str(path)) for path in paths))
    owner: dict[str, str] = {}
    for name in entries:
        path = index.find(name)
        if path in owner:
            raise ValueError(f'{source} names {path} twice, as {owner[path]!r} and {name!r}')
        owner[path] = name
    labels = [sorted(entries[name]) for name in owner.values()]
    return ImageTags(tuple(classes), list(owner), labels)


def _of_coco(source: Path) -> tuple[tuple[str, ...], dict[str, set[int]]]:
    coco = read_coco(source)
    order = {category: label for label, category in enumerate(sorted(coco.cats))}
    return (
        tuple(coco.cats[category]['name'] for category in order),
        {
            coco.imgs[image]['file_name']: {
                order[one['category_id']] for one in coco.imgToAnns[image]
            }
            for image in sorted(coco.imgs)
        },
    )


def _of_csv(source: Path) -> tuple[tuple[str, ...], dict[str, set[int]]]:
    try:
        text = source.read_text(encoding='utf-8-sig')
        header, *rows = list(csv.reader(io.StringIO(text), strict=True)) or [[]]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f'{source} is not a CSV file in UTF-8: {error}') from None
    header = [cell.strip() for cell in header]
    if len(header) < 2 or header[0].lower() not in IMAGE_COLUMNS:
        raise ValueError(
            f'{source} needs a header, "image,tag" or "image" and one column per class, with '
            f'commas; its first line is {",".join(header)[:60]!r}'
        )
    entries: dict[str, set[int]] = defaultdict(set)
    columns = [cell.lower() for cell in header]
    long = sorted(columns[1:]) in (
        ['tag'], ['score', 'tag'], ['error', 'tag'], ['error', 'score', 'tag'],
    )  # fmt: skip
    names = [] if long else header[1:]
    if not long and ('' in names or len(set(names)) < len(names)):
        raise ValueError(f'{source} has an empty class name in its header, or one twice')
    index = {name: number for number, name in enumerate(names)}
    for number, row in enumerate(rows, start=2):
        cells = [cell.strip() for cell in row]
        if not any(cells):
            continue
        where = f'{source}, line {number}'
        if len(cells) != len(header):
            raise ValueError(f'{where} has {len(cells)} cells, but the header has {len(header)}')
        image = cells[0]
        if not image:
            raise ValueError(f'{where} names no image')
        if long:
            of = dict(zip(columns, cells, strict=True))
            if not of.get('error'):
                found = entries[image]
                if of['tag']:
                    found.add(index.setdefault(of['tag'], len(index)))
            continue
        if image in entries:
            raise ValueError(f'{where} has {image!r} a second time')
        wrong = next((cell for cell in cells[1:] if cell not in ('0', '1')), None)
        if wrong is not None:
            raise ValueError(
                f'{where} has the cell {wrong!r}; a column of a class has 0 or 1, and one of names '
                'is called "tag"'
            )
        entries[image] = {place for place, cell in enumerate(cells[1:]) if cell == '1'}
    if not index:
        raise ValueError(f'{source} names no class')
    if long:  # in the order of the alphabet, whatever that of the rows
        order = {index[name]: place for place, name in enumerate(sorted(index))}
        entries = {image: {order[one] for one in found} for image, found in entries.items()}
        return tuple(sorted(index)), entries
    return tuple(names), entries


def _of_folders(folder: Path, paths: Sequence[Path], classes: Any) -> ImageTags:
    _not_given(folder, classes)
    loose = next((path for path in paths if path.parent == folder), None)
    if loose is not None:
        raise ValueError(
            f'{loose} is in no folder of a class; if the labels are in a file, name the file'
        )
    owners = [path.relative_to(folder).parts[0] for path in paths]
    names = sorted(set(owners))
    return ImageTags(
        tuple(names), [str(path) for path in paths], [[names.index(owner)] for owner in owners]
    )


def _yolo_names(source: Path) -> tuple[str, ...]:
    try:
        content = yaml.load(source.read_text(encoding='utf-8'), PlainLoader)
        names = content['names']
        if isinstance(names, Mapping):
            if sorted(names) != list(range(len(names))):
                raise ValueError('the numbers of its names are not 0, 1, 2 and so on')
            names = [names[number] for number in range(len(names))]
        return Vocabulary.load([str(name) for name in names]).names
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        reason = ' '.join(str(error).split())
        raise ValueError(f"{source} is not YOLO's data.yaml with its names: {reason}") from None


def _yolo_label_file(image: Path) -> Path:
    """Where YOLO looks: the last folder ``images`` becomes ``labels``."""
    parts = list(image.parts[:-1])
    if 'images' in parts:
        parts[len(parts) - 1 - parts[::-1].index('images')] = 'labels'
    return Path(*parts, f'{image_stem(image)}.txt')


def _beside(folder: Path, labels: Path) -> Any:
    """Where a folder of labels has that of an image: at the same place."""

    def place(image: Path) -> Path:
        relative = image.relative_to(folder)
        return labels / relative.parent / f'{image_stem(image)}.txt'

    return place


def _of_yolo(
    source: Path, paths: Sequence[Path], classes: tuple[str, ...], place: Any
) -> ImageTags:
    owner: dict[Path, Path] = {}
    labels = []
    for path in paths:
        file = place(path)
        if file in owner:
            raise ValueError(f'{owner[file]} and {path} would have the same label file')
        owner[file] = path
        labels.append(sorted(_yolo_classes(file, classes)) if file.is_file() else [])
    if not any(file.is_file() for file in owner):
        raise FileNotFoundError(
            f'no image has a label file of {source}; that of {paths[0]} would be {place(paths[0])}'
        )
    return ImageTags(classes, [str(path) for path in paths], labels)


def _yolo_classes(file: Path, classes: Sequence[str]) -> set[int]:
    """Classes of the boxes or polygons of a label file."""
    found = set()
    for number, line in enumerate(split_lines(read_text(file, 'label file')), start=1):
        words = line.split()
        if not words:
            continue
        count = len(words) - 1
        if not re.fullmatch('[0-9]+', words[0]) or not (
            (count == 4 or (count >= 6 and count % 2 == 0)) and all(map(_is_number, words[1:]))
        ):
            raise ValueError(
                f'{file}, line {number} is neither "class x y width height" nor "class x y x y x '
                f'y ...": {line[:60]!r}'
            )
        if int(words[0]) >= len(classes):
            raise ValueError(
                f'{file}, line {number} names the unknown class {words[0]}; there are '
                f'{len(classes)}, from 0'
            )
        found.add(int(words[0]))
    return found


def _is_number(word: str) -> bool:
    try:
        return bool(np.isfinite(float(word)))
    except ValueError:
        return False


def _of_masks(
    folder: Path, source: Path, paths: Sequence[Path], classes: tuple[str, ...]
) -> ImageTags:
    images, labels = [], []
    for path, mask in mask_pairs(folder, source, paths):
        values = np.unique(read_index_mask(mask))
        values = values[values != IGNORED]
        if len(values) and values.max() > len(classes):
            raise ValueError(
                f'{mask} has the label {values.max()}, but the {len(classes)} classes have labels '
                f'1 to {len(classes)} (0 is the background, {IGNORED} is ignored)'
            )
        images.append(str(path))
        labels.append([int(value) - 1 for value in values if value])
    return ImageTags(classes, images, labels)


def mask_pairs(
    folder: Path, masks: Path, paths: Iterable[Path], suffix: str = '.png'
) -> list[tuple[Path, Path]]:
    """Images that have a mask at the same place in another folder, and the mask.

    Raises:
        FileNotFoundError: None has one.
        ValueError: Two images would have the same mask.
    """
    owner: dict[Path, Path] = {}
    for path in paths:
        relative = path.relative_to(folder)
        mask = masks / relative.parent / f'{image_stem(path)}{suffix}'
        if mask in owner:
            raise ValueError(f'{owner[mask]} and {path} would have the same mask, {mask}')
        if mask.is_file():
            owner[mask] = path
    if not owner:
        raise FileNotFoundError(f'no image in {folder} has a mask (*{suffix}) in {masks}')
    return [(path, mask) for mask, path in owner.items()]
