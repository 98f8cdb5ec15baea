"""Label Studio's tasks with predictions, its label config, and class names from one."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from ..files import write_whole
from ..label_config import CONTROLS
from ..records import encode_line
from ..version import __version__
from . import Format, Options
from .folders import Folder
from .regions import Region, class_regions, connected_regions
from .results import Results

# Bits of a run's length that its head may choose from.
RUN_BITS = (3, 4, 8, 16)


def write(results: Results, out: Path, options: Options) -> None:
    """Write tasks to import, and beside them a label config of the same name, ``.xml``.

    Images that could not be read are left out.

    Raises:
        FileExistsError: The label config is there with another content.
    """
    shapes = options.shapes or 'masks' if results.kind == 'masks' else None
    folder = Folder(out.parent, options)
    folder.write(out.with_suffix('.xml').name, label_config(results, shapes).encode(), b'\n')
    tasks = []
    for entry in results:
        if entry.size is not None:
            url = options.image_url + quote(entry.file_name, errors='surrogateescape')
            found = predictions(
                results.labels,
                entry.size,
                entry.scores,
                entry.mask,
                shapes,
                background=0 if results.with_background else None,
                min_area=options.min_area,
                tolerance=options.tolerance,
            )
            prediction: dict[str, Any] = {
                'model_version': f'mmtagclip {__version__}',
                'result': found,
            }
            known = [score for score in entry.scores.values() if score is not None]
            if known:
                prediction['score'] = max(known)
            tasks.append({'data': {'image': url}, 'predictions': [prediction]})
    lines = (encode_line(json.dumps(task, ensure_ascii=False)) for task in tasks)
    folder.close()
    write_whole(out, b'[\n', _joined(lines), b']\n')


def predictions(
    labels: Sequence[str],
    size: tuple[int, int],
    scores: dict[str, float | None],
    mask: np.ndarray | None = None,
    shapes: str | None = None,
    *,
    background: int | None = None,
    min_area: int = 1,
    tolerance: float = 1.0,
    from_name: str | None = None,
    to_name: str = 'image',
) -> list[dict[str, Any]]:
    """The ``result`` of a prediction.

    Args:
        labels: Name of each label of the mask.
        size: ``(H, W)`` of the image.
        scores: Score of each tag.
        mask: ``(H, W)`` uint8 labels.
        shapes: What the mask becomes: ``'masks'``, ``'polygons'`` or ``'boxes'``; None for the tags
            as choices.
        background: Label that is left out.
        min_area: Smaller regions are left out of polygons and boxes, in pixels.
        tolerance: How far a polygon may be from the outline, in pixels.
        from_name: Name of the control in the label config; ours if None.
        to_name: Name of the image in it.
    """
    height, width = size
    about = {
        'from_name': from_name or ('tags' if shapes is None else shapes),
        'to_name': to_name,
        'original_width': width,
        'original_height': height,
        'image_rotation': 0,
    }
    if shapes is None or mask is None:
        if not scores:
            return []
        return [{**about, 'id': 'tags', 'type': 'choices', 'value': {'choices': list(scores)}}]
    kind = CONTROLS[shapes].lower()
    found = []
    for number, region in enumerate(
        class_regions(mask, background)
        if shapes == 'masks'
        else connected_regions(mask, background, min_area)
    ):
        tag = labels[region.label]
        value = {**_value(region, size, shapes, tolerance), kind: [tag]}
        known = {} if scores.get(tag) is None else {'score': scores[tag]}
        found.append({**about, 'id': f'{shapes}-{number}', 'type': kind, 'value': value, **known})
    return found


def _value(region: Region, size: tuple[int, int], shapes: str, tolerance: float) -> dict[str, Any]:
    height, width = size
    if shapes == 'masks':
        return {'format': 'rle', 'rle': encode_brush(region.full(size))}
    if shapes == 'polygons':
        corners = region.outline(tolerance)
        return {'points': [[100 * x / width, 100 * y / height] for x, y in corners], 'closed': True}
    left, top, wide, high = region.box
    return {
        'x': 100 * left / width,
        'y': 100 * top / height,
        'width': 100 * wide / width,
        'height': 100 * high / height,
        'rotation': 0,
    }


def encode_brush(mask: np.ndarray) -> list[int]:
    """A mask as the bytes of a brush: run lengths of an RGBA image, packed bit by bit.

    Args:
        mask: ``(H, W)`` bool.

    Returns:
        Bytes, as integers.
    """
    values = np.repeat(mask.ravel(), 4).astype(np.uint8) * 255
    ends = np.append(np.flatnonzero(np.diff(values)) + 1, len(values))
    head = [f'{len(values):032b}', f'{8 - 1:05b}', *(f'{bits - 1:04b}' for bits in RUN_BITS)]
    bits, start = head, 0
    for end in ends.tolist():
        value = f'{values[start]:08b}'
        while start < end:
            length = min(end - start, 2 ** RUN_BITS[-1])
            choice = next(i for i, size in enumerate(RUN_BITS) if length <= 2**size)
            bits.append(f'1{choice:02b}{length - 1:0{RUN_BITS[choice]}b}{value}')
            start += length
    text = ''.join(bits)
    text += '0' * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, 'big'))


def label_config(results: Results, shapes: str | None) -> str:
    """A label config that the predictions fit, as XML.

    Args:
        results: Of which the classes and colours are taken.
        shapes: What masks become; None for tags.
    """
    view = Element('View')
    SubElement(view, 'Image', name='image', value='$image', zoom='true')
    if shapes is None:
        control = SubElement(view, 'Choices', name='tags', toName='image', choice='multiple')
        for name in results.classes:
            SubElement(control, 'Choice', value=name)
    else:
        control = SubElement(view, CONTROLS[shapes], name=shapes, toName='image')
        for name, colour in zip(
            results.classes, results.palette[int(results.with_background) :], strict=True
        ):
            SubElement(
                control, 'Label', value=name, background='#{:02x}{:02x}{:02x}'.format(*colour)
            )
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding='unicode')


def _joined(lines: Iterator[bytes]) -> Iterator[bytes]:
    for number, line in enumerate(lines):
        yield (b',' if number else b' ') + line


FORMAT = Format(
    'label-studio',
    'tasks with predictions for Label Studio, and their label config',
    write,
    '.json',
    shapes=('masks', 'polygons', 'boxes'),
)
