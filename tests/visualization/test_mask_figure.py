"""Drawings of masks and contact sheets."""

import numpy as np
import pytest

from mmtagclip.palette import appearance, class_colours, difference
from mmtagclip.visualization import contact_sheet, draw_masks, mask_legend
from mmtagclip.visualization.contact_sheet import wrap
from mmtagclip.visualization.mask_figure import _box, _places
from tests.conftest import picture

CLASSES = ['background', 'dog', 'cat', 'traffic light']
PALETTE = [(0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255)]


def test_colours_lie_where_the_labels_are():
    image = np.full((40, 60, 3), 100, np.uint8)
    mask = np.zeros((40, 60), np.uint8)
    mask[:20, :30], mask[20:, 30:] = 1, 2
    mask[35:, :5] = 255
    drawn = draw_masks(image, mask, CLASSES, PALETTE, background=0, with_legend=False)
    assert drawn.shape == (600, 900, 3)
    assert drawn[100, 200].argmax() == 0
    assert drawn[550, 650].argmax() == 1
    assert (drawn[100, 700] == 100).all()  # background
    assert (drawn[590, 20] == 100).all()  # 255
    without = draw_masks(image, mask, CLASSES, PALETTE, with_legend=False)
    assert not (without[100, 700] == 100).all()
    legend = draw_masks(image, mask, CLASSES, PALETTE, background=0)
    assert np.array_equal(legend[14:614, 14:914], drawn)


def filled(drawn, colour):
    """Rows and columns of the pixels that have exactly this colour."""
    return np.nonzero((drawn == colour).all(axis=-1))


def test_names_are_on_their_regions():
    """In the widest part of each region; beside one that is too small; never over another name."""
    image = np.full((300, 450, 3), 100, np.uint8)
    mask = np.zeros((300, 450), np.uint8)
    mask[100:110, 20:200] = 1  # a thin tail of ...
    mask[50:200, 200:350] = 1
    mask[250:260, 400:410] = 2
    drawn = draw_masks(image, mask, CLASSES, PALETTE, background=0, opacity=0, with_legend=False)
    inner = drawn.copy()
    rows, columns = filled(inner, PALETTE[1])
    wide = (rows > 120) & (rows < 380) & (columns > 420) & (columns < 680)
    assert abs(rows[wide].mean() - 250) < 20
    assert abs(columns[wide].mean() - 550) < 20
    rows, columns = filled(inner, PALETTE[2])
    assert (rows < 490).sum() > 1000  # the label is above the small region ...
    assert ((rows > 505) & (rows < 515) & (columns > 805) & (columns < 815)).sum() == 0  # not on it


def test_a_name_without_a_place_is_left_out():
    image, mask = np.full((300, 8, 3), 100, np.uint8), np.ones((300, 8), np.uint8)
    drawn = draw_masks(image, mask, CLASSES, PALETTE, opacity=0, with_legend=False)
    assert drawn.shape == (900, 24, 3)
    assert (drawn[100:800, 12] == 100).all()


@pytest.mark.parametrize(
    'size, count',
    [((4, 4), 1), ((4, 4), 16), ((3, 300), 80), ((300, 3), 80), ((1000, 1200), 1)],
)
def test_any_size_and_any_number_of_classes(size, count):
    mask = (np.arange(size[0] * size[1]) % count).reshape(size).astype(np.uint8)
    names = [f'class number {i}' for i in range(count)]
    drawn = draw_masks(picture(*size, 1), mask, names, [(i, i, i) for i in range(count)])
    assert drawn.dtype == np.uint8
    assert max(drawn.shape) >= 900


def test_the_legend_has_every_class_that_occurs():
    """Each entry's swatch is somewhere below the image."""
    count = 30
    mask = np.repeat(np.arange(count, dtype=np.uint8)[:, None], 40, axis=1)
    names, palette = [str(i) for i in range(count)], class_colours(count)
    drawn = draw_masks(np.zeros((count, 40, 3), np.uint8), mask, names, palette)
    legend = drawn[14 + 675 :].reshape(-1, 3)
    entries = mask_legend(mask, names, palette)
    assert len(entries) == count
    for entry in entries:
        assert (legend == entry.colour).all(axis=1).sum() > 100


def test_the_legend_of_a_flat_image_and_long_names():
    mask = np.repeat(np.arange(6, dtype=np.uint8)[None], 100, axis=1)
    drawn = draw_masks(np.zeros((1, 600, 3), np.uint8), mask, ['x' * 500] * 6, class_colours(6))
    assert drawn.shape[1] == 900 + 2 * 14
    assert drawn.shape[0] < 400


def test_classes_of_similar_colours_get_others():
    mask = np.array([[1] * 6, [2] * 3 + [3] * 3], np.uint8)
    palette = [(0, 0, 0), (200, 0, 0), (200, 0, 20), (0, 0, 255)]
    entries = mask_legend(mask, CLASSES, palette, background=0)
    assert [entry.name for entry in entries] == ['dog', 'cat', 'traffic light']
    assert [entry.share for entry in entries] == [0.5, 0.25, 0.25]
    assert entries[0].colour == (200, 0, 0)
    looks = appearance([entry.colour for entry in entries])
    for one in range(3):
        for other in range(one):
            assert difference(looks[:, one : one + 1], looks[:, other : other + 1])[0] >= 15


def test_bad_masks_are_refused():
    image = picture(8, 8, 1)
    with pytest.raises(ValueError, match='image is 8x8 pixels, but its mask 9x8'):
        draw_masks(image, np.zeros((8, 9), np.uint8), CLASSES, PALETTE)
    with pytest.raises(ValueError, match='label 4, but there are 4 classes'):
        draw_masks(image, np.full((8, 8), 4, np.uint8), CLASSES, PALETTE)


def test_contact_sheet_has_a_place_for_each_image():
    images = [(picture(30, 90, i), f'picture {i}') for i in range(6)] + [(None, 'broken')]
    page = contact_sheet(images, columns=3, side=60)
    assert page.shape[1] == 3 * 74 + 14
    assert contact_sheet(images[:2], columns=3, side=60).shape[1] == 2 * 74 + 14
    named = contact_sheet([(picture(30, 90, 0), 'a.jpg: dog 0.90')], side=240)
    other = contact_sheet([(picture(30, 90, 0), 'b.jpg: dog 0.90')], side=240)
    differ = np.nonzero((named != other).any(axis=(1, 2)))[0]
    assert differ.max() < 282 < named.shape[0]  # the name is a separate line, above the tags
    with pytest.raises(ValueError, match='at least one image'):
        contact_sheet([])


@pytest.mark.parametrize(
    'caption, expected',
    [
        ('', []),
        ('dog', ['dog']),
        ('dog, cat, bird', ['dog, cat,', 'bird']),
        ('abcdefghijklmnop', ['abcdefghij', 'klmnop']),
        ('one two three four five six seven', ['one two', 'three four', 'five six…']),
        ('aaaaaaaaaa bbbbbbbbbb cccccccccc d', ['aaaaaaaaaa', 'bbbbbbbbbb', 'ccccccccc…']),
    ],
)
def test_captions_are_broken_and_cut(caption, expected):
    assert wrap(caption, 10, len) == expected


@pytest.mark.parametrize('seed', range(20))
def test_no_line_is_too_wide_and_no_word_lost(seed):
    random = np.random.RandomState(seed)
    words = ['x' * random.randint(1, 14) for _ in range(random.randint(0, 9))]
    width = random.randint(4, 12)
    lines = wrap(' '.join(words), width, len)
    assert len(lines) <= 3
    assert all(len(line) <= width for line in lines)
    if not any(line.endswith('…') for line in lines):
        assert ''.join(lines).replace(' ', '') == ''.join(words)


def test_where_a_name_may_be():
    """On a region that is large enough, else above, below, right or left of it."""
    here = np.zeros((100, 200), bool)
    here[20:61, 50:151] = True
    (large,) = _places(here, width=40, height=10)
    beside = [(100.5, 9), (100.5, 72), (177, large[0][1]), (24, large[0][1])]
    x, y = large[0]
    assert large == [(x, y), *beside]
    assert y == 40
    assert 69 < x < 131  # as deep in the region as can be
    (small,) = _places(here, width=90, height=30)
    assert small[4] == (x, y)
    assert small[:2] == [(100.5, -1), (100.5, 82)]


def test_which_regions_of_a_class_have_a_name():
    """The largest one, and others of 2 % of the image."""
    here = np.zeros((100, 100), bool)
    here[:10, :10] = here[90:, :20] = here[50:60, 50:70] = here[50:59, :20] = True
    ends = [places[-1] for places in _places(here, width=40, height=10)]
    assert len(ends) == 2
    assert {y > 80 for _, y in ends} == {True, False}
    here[90:] = here[50:] = False
    assert len([*_places(here, width=4, height=2)]) == 1  # however small it is


@pytest.mark.parametrize(
    'centre, box',
    [
        ((50, 40), (40, 35, 60, 45)),
        ((0, 0), (4, 4, 24, 14)),
        ((100, 80), (76, 66, 96, 76)),
    ],
)
def test_a_name_stays_in_the_drawing(centre, box):
    assert _box(centre, 20, 10, (100, 80)) == box
