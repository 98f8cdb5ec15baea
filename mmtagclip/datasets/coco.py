"""Read and check COCO instances files."""

import contextlib
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO

from ..images import MAX_PIXELS
from ..labels import decode_segmentation
from ..records import parse_json

PARTS = ('images', 'annotations', 'categories')


def read_coco(path: str | Path) -> COCO:
    """Read a COCO instances file.

    Args:
        path: The JSON file.

    Returns:
        pycocotools' index of the file. Ids and names of images and categories are unique.
        Each annotation names an image and a category of the file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not in COCO's layout, an id or name is not unique, or an
            annotation names an unknown image or category.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'no COCO annotation file at {path}')
    try:
        content = parse_json(path.read_text(encoding='utf-8'))
        if not isinstance(content, Mapping):
            raise TypeError(f'it contains a {type(content).__name__}, not an object')
        for part in PARTS:
            if not isinstance(content[part], list):
                raise TypeError(f'{part} is not a list')
        _check(content)
        with contextlib.redirect_stdout(io.StringIO()):
            coco = COCO()
            coco.dataset = content
            coco.createIndex()
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not in COCO's layout: {error!r}") from None
    except ValueError as error:
        raise ValueError(f'{path} {error}') from None
    return coco


def object_mask(annotation: Mapping[str, Any], image: Mapping[str, Any]) -> np.ndarray:
    """The pixels of an object.

    Args:
        annotation: With ``segmentation``: polygons or run lengths.
        image: With ``height`` and ``width``.

    Returns:
        ``(H, W)`` bool.

    Raises:
        ValueError: The size or the segmentation is damaged; the message names it.
    """
    name, size = f'annotation {annotation.get("id")!r}', image_size(image)
    try:
        return decode_segmentation(annotation.get('segmentation'), size)
    except ValueError as error:
        raise ValueError(f'{name}: {error}') from None


def image_size(image: Mapping[str, Any]) -> tuple[int, int]:
    """``(H, W)`` of an image in a file.

    Raises:
        ValueError: It has none, or one that no image has.
    """
    height, width = size = image.get('height'), image.get('width')
    if (
        not (type(height) is int and type(width) is int)
        or min(height, width) < 1
        or height * width > MAX_PIXELS
    ):
        raise ValueError(
            f'the image {image.get("file_name")!r} has the height and width {size}: they must be '
            f'in pixels, {MAX_PIXELS} at most'
        )
    return height, width


def _check(content: Mapping[str, Any]) -> None:
    images, categories = content['images'], content['categories']
    _unique('images', 'id', (one['id'] for one in images))
    _unique('images', 'file_name', (_text(one, 'file_name') for one in images))
    _unique('categories', 'id', (one['id'] for one in categories))
    _unique('categories', 'name', (_text(one, 'name') for one in categories))
    known = {
        'image': {one['id'] for one in images},
        'category': {one['id'] for one in categories},
    }
    for annotation in content['annotations']:
        for kind, ids in known.items():
            asked = annotation[f'{kind}_id']
            if asked not in ids:
                near = next((one for one in ids if str(one) == str(asked)), None)
                hint = f' (it has {near!r}, of another type)' if near is not None else ''
                raise ValueError(
                    f'gives annotation {annotation.get("id")!r} the unknown {kind} {asked!r}{hint}'
                )


def _text(entry: Mapping[str, Any], key: str) -> str:
    if not isinstance(entry[key], str) or not entry[key]:
        raise TypeError(f'{key} must be a string, not {entry[key]!r}')
    return entry[key]


def _unique(part: str, key: str, values: Iterable[Any]) -> None:
    twice = [value for value, count in Counter(values).items() if count > 1]
    if twice:
        raise ValueError(f'has the {key} {twice[0]!r} twice among its {part}')
