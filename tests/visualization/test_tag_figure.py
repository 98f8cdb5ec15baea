"""Drawings of tags."""

import dataclasses

import numpy as np
import pytest

from mmtagclip.apis import SegResult, TagResult
from mmtagclip.visualization import draw_masks, draw_result, draw_tags, overlay
from mmtagclip.visualization.canvas import ACCENT, PAPER, TRACK, fit_text, font
from mmtagclip.visualization.tag_figure import _rows
from tests.conftest import picture


@pytest.mark.parametrize('size', [(64, 96), (96, 64), (1, 300), (300, 1)])
@pytest.mark.parametrize('count', [0, 1, 6])
@pytest.mark.parametrize('with_maps', [True, False])
def test_draws_any_number_of_tags_without_empty_places(size, count, with_maps):
    maps = np.random.RandomState(0).rand(count, 4, 6) if with_maps else None
    names = [f'tag {i}' for i in range(count)]
    drawn = draw_tags(picture(*size, 1), names, [0.5] * count, maps)
    assert drawn.dtype == np.uint8
    assert max(drawn.shape) >= 1200 or size == (300, 1)
    # No quarter of the drawing is mostly paper.
    middle = [side // 2 for side in drawn.shape[:2]]
    if 0.5 < size[0] / size[1] < 2:
        for rows in (slice(None, middle[0]), slice(middle[0], None)):
            for columns in (slice(None, middle[1]), slice(middle[1], None)):
                assert (drawn[rows, columns] == PAPER).all(axis=-1).mean() < 0.55


def test_rows_are_full():
    for shape in (0.5, 1, 1.5, 3):
        for count in range(2, 22):
            rows = _rows(count, shape)
            assert sum(rows) == count
            assert rows == sorted(rows)
            assert rows[-1] - rows[0] <= 1


def bars(drawn):
    """Length of each bar as a share of its track, from the pixels."""
    rows = [
        (row == ACCENT).all(axis=-1).sum() / np.isin(row, [ACCENT, TRACK]).all(axis=-1).sum()
        for row in drawn
        if (row == ACCENT).all(axis=-1).sum() > 5
    ]
    return np.median(rows)


@pytest.mark.parametrize('score', [0.03, 0.5, 0.97])
def test_a_full_bar_is_one(score):
    image = np.full((60, 90, 3), 250, np.uint8)
    assert abs(bars(draw_tags(image, ['dog'], [score])) - score) < 0.02
    # A second, higher tag changes nothing of it.
    both = draw_tags(image, ['cat', 'dog'], [1.0, score], np.zeros((2, 3, 3)))
    alone = draw_tags(image, ['dog'], [score], np.zeros((1, 3, 3)))
    assert abs(bars(alone) - score) < 0.02
    assert not np.array_equal(both, alone)


def test_heat_maps_have_one_scale():
    """A map's colours follow from its values alone, and 0.03 is nearly grey."""
    image = np.full((40, 60, 3), 128, np.uint8)
    low, high = np.full((4, 6), 0.03), np.full((4, 6), 0.03)
    high[0, 0] = 0.9
    heat = overlay(image, high).astype(int)
    assert heat[3, 3, 0] > heat[3, 3, 2] + 60  # yellow
    assert np.abs(heat[35, 55] - overlay(image, low)[35, 55]).max() <= 1
    assert np.ptp(heat[35, 55]) < 40
    one, more = overlay(image, np.ones((4, 6))), overlay(image, np.full((4, 6), 1.7))
    assert np.array_equal(one, more)
    assert (overlay(image, np.zeros((4, 6))) == overlay(image, np.zeros((4, 6)))[0, 0]).all()


def test_no_tags_is_said():
    image = picture(64, 96, 1)
    nothing = draw_tags(image, [], [])
    assert np.array_equal(nothing, draw_tags(image, [], [], np.zeros((0, 4, 6))))
    assert (nothing[-60:] != PAPER).any()  # the words


def test_numbers_that_differ_are_refused():
    with pytest.raises(ValueError, match='2 tags, but 1 scores and no score maps'):
        draw_tags(picture(8, 8, 1), ['a', 'b'], [0.5])
    with pytest.raises(ValueError, match='1 tags, but 1 scores and 2 score maps'):
        draw_tags(picture(8, 8, 1), ['a'], [0.5], np.zeros((2, 2, 2)))


def test_the_best_of_many_tags_are_drawn():
    scores, maps = np.linspace(0, 1, 50), np.random.RandomState(0).rand(50, 2, 3)
    image, tags = picture(64, 96, 1), [f'tag {i}' for i in range(50)]
    drawn = draw_tags(image, tags, scores, maps)
    best = draw_tags(image, tags[30:], scores[30:], maps[30:])
    assert drawn.shape == best.shape
    assert np.array_equal(drawn[-600:], best[-600:])
    assert not np.array_equal(drawn, best)  # 20 of 50 tags


def test_long_names_are_cut():
    maps = np.random.RandomState(0).rand(2, 2, 3)
    drawn = draw_tags(picture(64, 96, 1), ['dog', 'a' * 300], [0.9, 0], maps)
    assert np.array_equal(drawn, draw_tags(picture(64, 96, 1), ['dog', 'a' * 200], [0.9, 0], maps))


@pytest.mark.parametrize('text', ['', 'dog', 'a traffic light', 'x' * 5000])
@pytest.mark.parametrize('width', [0, 30, 100])
def test_text_fits(text, width):
    face = font(20)
    fitted = fit_text(text, width, face)
    assert fitted == text or fitted.endswith('…')
    assert face.getlength(fitted) <= max(width, face.getlength('…'))


def test_results_are_drawn():
    image, maps = picture(64, 96, 1), np.random.RandomState(0).rand(3, 4, 6).astype(np.float32)
    scores = np.float32([0.2, 0.9, 0.6])
    tagged = TagResult('a', (64, 96), ('x', 'y', 'z'), scores, np.array([1, 2]), maps)
    assert np.array_equal(
        draw_result(image, tagged), draw_tags(image, ['y', 'z'], [0.9, 0.6], maps[1:])
    )
    without = dataclasses.replace(tagged, score_maps=None)
    assert np.array_equal(draw_result(image, without), draw_tags(image, ['y', 'z'], [0.9, 0.6]))
    mask = np.zeros((64, 96), np.uint8)
    mask[10:30, 10:50] = 1
    names, colours = ('background', 'dog'), ((0, 0, 0), (0, 114, 178))
    masks = SegResult('a', (64, 96), names, colours, mask, {'dog': None}, background=0)
    assert np.array_equal(draw_result(image, masks), draw_masks(image, mask, names, colours, 0))
    with pytest.raises(ValueError, match='a could not be read, so there is nothing to draw'):
        draw_result(image, dataclasses.replace(tagged, error='broken'))
