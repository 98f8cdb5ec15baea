"""How drawings look: they are compared with the drawings that were last looked at.

After an intended change: run ``python -m tests.visualization.test_looks``, look at what it writes,
and commit that.
"""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmtagclip.labels import labels_metainfo
from mmtagclip.visualization import contact_sheet, draw_masks, draw_tags

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
}


@pytest.mark.parametrize('name', CASES)
def test_drawings_look_as_they_did(name):
    """Another version of the font's renderer changes few pixels; a wrong place, many."""
    drawn, before = CASES[name](), np.asarray(Image.open(FOLDER / f'{name}.webp'))
    assert drawn.shape == before.shape
    apart = np.abs(drawn.astype(int) - before).max(axis=-1)
    assert (apart > 24).mean() < 0.0003
    assert apart.mean() < 0.2


if __name__ == '__main__':
    for name, draw in CASES.items():
        Image.fromarray(draw()).save(FOLDER / f'{name}.webp', lossless=True, method=6)
