"""CVAT's XML: "CVAT for images 1.1"."""

from itertools import groupby
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from ..files import write_whole
from . import Format, Options
from .regions import Region, class_regions, connected_regions
from .results import Entry, Results, plain


def write(results: Results, out: Path, options: Options, scratch: Path | None = None) -> None:
    """Write one file: tags as tags; masks as masks, polygons or boxes.

    A polygon has no holes; a mask has. Images that could not be read are left out.
    """
    root = Element('annotations')
    SubElement(root, 'version').text = '1.1'
    labels = SubElement(SubElement(SubElement(root, 'meta'), 'task'), 'labels')
    first = int(results.with_background)
    for name, colour in zip(results.classes, results.palette[first:], strict=True):
        label = SubElement(labels, 'label')
        SubElement(label, 'name').text = name
        SubElement(label, 'color').text = '#{:02x}{:02x}{:02x}'.format(*colour)
        SubElement(label, 'type').text = 'any' if results.kind == 'masks' else 'tag'
        SubElement(label, 'attributes')
    number = 0
    for entry in results:
        if entry.size is None:
            continue
        height, width = entry.size
        values = {
            'id': number,
            'name': plain(entry.file_name),
            'width': width,
            'height': height,
        }
        image = SubElement(root, 'image', {key: str(value) for key, value in values.items()})
        number += 1
        if entry.mask is None:
            for tag in entry.scores:
                SubElement(image, 'tag', label=tag, source='auto')
        else:
            _shapes(image, results, entry, options)
    ElementTree.indent(root)
    write_whole(out, ElementTree.tostring(root, encoding='utf-8', xml_declaration=True), b'\n')


def _shapes(image: Element, results: Results, entry: Entry, options: Options) -> None:
    assert entry.mask is not None
    background = 0 if results.with_background else None
    whole = options.shapes in (None, 'masks')
    for region in (
        class_regions(entry.mask, background)
        if whole
        else connected_regions(entry.mask, background, options.min_area)
    ):
        values = {'label': results.labels[region.label], 'source': 'auto', 'occluded': '0'}
        left, top, width, height = region.box
        if whole:
            box = {'left': left, 'top': top, 'width': width, 'height': height}
            values.update({key: str(value) for key, value in box.items()}, rle=_runs(region))
            SubElement(image, 'mask', values, z_order='0')
        elif options.shapes == 'polygons':
            corners = region.outline(options.tolerance)
            points = ';'.join(f'{x:.2f},{y:.2f}' for x, y in corners)
            SubElement(image, 'polygon', values, points=points, z_order='0')
        else:
            box = {'xtl': left, 'ytl': top, 'xbr': left + width, 'ybr': top + height}
            values.update({key: f'{value:.2f}' for key, value in box.items()})
            SubElement(image, 'box', values, z_order='0')


def _runs(region: Region) -> str:
    """Lengths of the runs within the box, row by row; the first is of what is outside."""
    runs = [(inside, len(list(run))) for inside, run in groupby(region.pixels.ravel().tolist())]
    lengths = [*([0] if runs[0][0] else []), *(length for _, length in runs)]
    return ', '.join(map(str, lengths))


FORMAT = Format(
    'cvat',
    'tags, masks, polygons or boxes in the XML of "CVAT for images 1.1"',
    write,
    '.xml',
    shapes=('masks', 'polygons', 'boxes'),
)
