"""How drawings look: they are compared with the drawings that were last looked at.

Each pixel, if the libraries that drew them are the same; else nearly all pixels.

After an intended change: run ``python -m tests.visualization.test_looks``, look at what it writes,
and commit that.
"""

import io
import json
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image, features

from mmtagclip.labels import labels_metainfo
from mmtagclip.palette import class_colours
from mmtagclip.visualization import contact_sheet, draw_masks, draw_overview, draw_tags
from mmtagclip.visualization.mask_figure import draw_instances
from mmtagclip.visualization.score_figure import draw_scores

FOLDER = Path(__file__).parent / 'looks'
NAMES = ['dog', 'traffic light', 'a class with a long name', 'cat', 'sea']


def plain(height, width):
    """A grey image with a lighter square: large flat areas, which are small files."""
    image = np.full((height, width, 3), 120, np.uint8)
    image[height // 4 : height // 2, width // 4 : width // 2] = (200, 170, 140)
    return image


def labelled(height, width, with_small):
    """A mask of three large regions, one of them in two parts, and of small ones at the edges."""
    mask = np.zeros((height, width), np.uint8)
    mask[: height // 2, : width // 3] = 1
    mask[height // 3 :, width // 2 :] = 2
    mask[: height // 5, -width // 4 :] = 1
    if with_small:
        mask[-4:, :5] = 3
        mask[height // 2 + 3 : height // 2 + 9, width // 3 : width // 3 + 8] = 4
        mask[height // 2 + 12 : height // 2 + 17, width // 3 : width // 3 + 8] = 5
        mask[0, -1] = 255
    return mask


def masks(height, width, with_small=True, **options):
    meta = labels_metainfo(NAMES, with_background=True)
    mask = labelled(height, width, with_small)
    return draw_masks(
        plain(height, width), mask, meta['classes'], meta['palette'], background=0, **options
    )


def tags(height, width, count, with_maps):
    steps = np.linspace(0, 1, 4 * 6, dtype=np.float32).reshape(4, 6)
    maps = np.stack([steps * (number + 1) / count for number in range(count)])
    scores = [0.97, 0.5, 0.031, 0.0004, 0.0][:count]
    return draw_tags(plain(height, width), NAMES[:count], scores, maps if with_maps else None)


def sheet():
    cells = [
        (plain(60, 90), 'a.jpg: dog 0.97, traffic light 0.51, a class with a long name 0.40'),
        (None, 'b.jpg is not an image, or it is damaged'),
        (plain(90, 60), 'c.jpg: no tags'),
    ]
    return contact_sheet(cells, columns=2)


def crowded():
    """Many classes: small text in several columns, names beside regions, similar colours."""
    mask = np.full((64, 96), 255, np.uint8)
    for label in range(15):
        row, column = divmod(label, 5)
        mask[4 + 20 * row : 8 + 20 * row + label, 2 + 19 * column : 14 + 19 * column] = label
    mask[60, 40:42] = 15
    names = [*NAMES, *(f'class number {label}' for label in range(5, 16))]
    palette = [(20 + 3 * label, 100 + 9 * label, 200) for label in range(16)]
    return draw_masks(plain(64, 96), mask, names, palette, title='Crowded ' * 9)


def instances():
    left, right, thin = np.zeros((3, 60, 90), bool)
    left[10:40, 5:50], right[20:55, 40:80], thin[2:4, :] = True, True, True
    found = [('dog', 0.61, left), ('dog', 0.93, right), ('cat', 0.9, thin)]
    return draw_instances(plain(60, 90), found, title='Instances')


def overview(height, width):
    """Results as :func:`draw_overview` reads them."""
    image = plain(height, width)
    tags = SimpleNamespace(
        error=None,
        score_maps=np.linspace(0, 1, 48, dtype=np.float32).reshape(2, 4, 6),
        classes=NAMES,
        labels=np.array([1, 0]),
        scores=np.array([0.7, 0.9, 0.1]),
    )
    tags.score_maps = tags.score_maps[[0, 1, 0]]
    meta = labels_metainfo(NAMES, with_background=True)
    masks = SimpleNamespace(
        error=None,
        mask=labelled(height, width, False),
        classes=meta['classes'],
        palette=meta['palette'],
        background=0,
    )
    return draw_overview(image, tags, {'One model': masks, 'Another of a long name': masks})


def scores(count):
    random = np.random.RandomState(count)
    rows = random.rand(40, count) ** 2
    figure = draw_scores(
        [f'class {label}' for label in range(count)],
        rows,
        positives=rows > 0.8,
        thresholds=[None if label % 3 == 1 else 0.3 for label in range(count)],
        title='Scores',
    )
    return np.asarray(Image.open(io.BytesIO(figure)).convert('RGB'))


def colours():
    """The first colours of classes, a row of 8 each."""
    return np.array(class_colours(40), np.uint8).reshape(5, 8, 3)


CASES = {
    'masks': lambda: masks(60, 90),
    'masks_tall': lambda: masks(120, 40, title='Large and small', opacity=0.8),
    'masks_large': lambda: masks(1000, 1500, with_small=False),
    'no_masks': lambda: draw_masks(plain(30, 90), np.zeros((30, 90), int), ['a'], [(0, 0, 0)], 0),
    'bars': lambda: tags(60, 90, 5, False),
    'bars_tall': lambda: tags(90, 30, 2, False),
    'maps': lambda: tags(60, 90, 4, True),
    'maps_flat': lambda: tags(30, 150, 2, True),
    'no_tags': lambda: draw_tags(plain(60, 90), [], []),
    'sheet': sheet,
    'crowded': crowded,
    'instances': instances,
    'overview': lambda: overview(60, 90),
    'overview_tall': lambda: overview(120, 30),
    'scores': lambda: scores(5),
    'colours': colours,
}


def versions():
    """What decides single pixels."""
    fonts = {f'{name} of Pillow': features.version(name) for name in ('freetype2', 'raqm')}
    names = ('matplotlib', 'numpy', 'Pillow')
    return {**fonts, **{name: version(name) for name in names}, 'opencv': cv2.__version__}


@pytest.mark.parametrize('name', CASES)
def test_drawings_look_as_they_did(name):
    """Another version of the font's renderer changes few pixels; a wrong place, many."""
    drawn, before = CASES[name](), np.asarray(Image.open(FOLDER / f'{name}.webp'))
    assert drawn.shape == before.shape
    apart = np.abs(drawn.astype(int) - before).max(axis=-1)
    if json.loads((FOLDER / 'versions.json').read_text()) == versions():
        assert apart.max() <= 8
    assert (apart > 24).mean() < 0.0003
    assert apart.mean() < 0.2


if __name__ == '__main__':
    (FOLDER / 'versions.json').write_text(json.dumps(versions(), indent=2) + '\n')
    for name, draw in CASES.items():
        Image.fromarray(draw()).save(FOLDER / f'{name}.webp', lossless=True, method=6)
