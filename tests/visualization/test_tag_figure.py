"""Pictures of tags."""

import numpy as np
import pytest

from mmtagclip.visualization import draw_tags, overlay
from tests.conftest import picture


@pytest.mark.parametrize('count', [0, 1, 6])
@pytest.mark.parametrize('with_maps', [True, False])
def test_draws_any_number_of_tags(count, with_maps):
    maps = np.random.RandomState(0).rand(count, 4, 6) if with_maps else None
    figure = draw_tags(picture(64, 96, 1), [f'tag {i}' for i in range(count)], [0.5] * count, maps)
    assert figure.dtype == np.uint8
    assert figure.shape[1:] == (1000, 3)
    rows = -(-count // 4) if with_maps else 0
    # Matplotlib before 3.11 cuts 919.99 to whole pixels, later ones round.
    assert abs(figure.shape[0] - (4 + 2.6 * rows) * 100) < 1
    assert figure.std() > 10


def test_overlay_is_hot_where_the_map_is_high():
    image = np.full((40, 60, 3), 128, np.uint8)
    score_map = np.zeros((4, 6))
    score_map[0, 0] = 1.0
    heat = overlay(image, score_map).astype(int)
    assert heat[3, 3, 0] > heat[3, 3, 2]  # red
    assert heat[35, 55, 0] < heat[3, 3, 0]
    assert (overlay(image, np.zeros((4, 6))) == overlay(image, np.zeros((4, 6)))[0, 0]).all()


def test_numbers_that_differ_are_refused():
    with pytest.raises(ValueError, match='2 tags, but 1 scores and no score maps'):
        draw_tags(picture(8, 8, 1), ['a', 'b'], [0.5])
    with pytest.raises(ValueError, match='1 tags, but 1 scores and 2 score maps'):
        draw_tags(picture(8, 8, 1), ['a'], [0.5], np.zeros((2, 2, 2)))


def test_the_best_of_many_tags_are_drawn():
    scores, maps = np.linspace(0, 1, 50), np.random.RandomState(0).rand(50, 2, 3)
    image, tags = picture(64, 96, 1), [f'tag {i}' for i in range(50)]
    figure = draw_tags(image, tags, scores, maps)
    assert figure.shape == (400 + 5 * 260, 1000, 3)
    best = draw_tags(image, tags[30:], scores[30:], maps[30:])
    assert np.array_equal(figure[400:], best[400:])


def test_names_are_no_formulas_and_may_be_long():
    maps = np.random.RandomState(0).rand(3, 2, 3)
    names = ['costs $5 or $6', r'$\frac{1}$', 'a' * 300]
    figure = draw_tags(picture(64, 96, 1), names, [0.9, 0.0004, 0], maps)
    assert figure.shape == (660, 1000, 3)
    assert np.array_equal(
        figure, draw_tags(picture(64, 96, 1), [*names[:2], 'a' * 29 + '…'], [0.9, 0.0004, 0], maps)
    )
