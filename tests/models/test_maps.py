"""Steps on maps."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from mmtagclip.models.maps import far_edge, fill_boxes, flip_back, min_max
from mmtagclip.models.taggers.cwr import bounding_box
from tests import twins


def test_min_max_scales_to_0_and_1_and_makes_a_constant_1():
    x = torch.tensor([[1.0, 3.0, 2.0], [5.0, 5.0, 5.0]])
    assert min_max(x, dim=1).tolist() == [[0, 1, 0.5], [1, 1, 1]]


@pytest.mark.parametrize(
    ('end', 'size', 'edge'), [(5, 5, 4), (4, 5, 4), (3, 5, 3), (1, 1, 1), (2, 2, 1)]
)
def test_far_edge(end, size, edge):
    assert far_edge(end, size) == edge


@settings(deadline=None, max_examples=200)
@given(
    arrays(
        np.float32,
        array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=12),
        elements=st.sampled_from(np.float32([0, 0.1, 0.3, 0.5, 0.8, 1]).tolist()),
    )
)
def test_fill_boxes_covers_what_boxes_of_contours_cover(score_map):
    quantised = (score_map * 255).astype(np.uint8)
    binary = (quantised > int(score_map.mean() * quantised.max())).astype(np.uint8)
    assert (fill_boxes(binary) == twins.box_mask(score_map)).all()


def test_fill_boxes_reaches_the_end_of_a_single_row_or_column():
    assert fill_boxes(np.array([[0, 1, 0, 0]], np.uint8)).tolist() == [[False, True, False, False]]
    assert fill_boxes(np.array([[1]], np.uint8)).tolist() == [[True]]
    assert fill_boxes(np.array([[1], [0]], np.uint8)).tolist() == [[True], [False]]


def test_bounding_box_clips_its_far_edges_and_is_none_when_empty():
    mask = torch.zeros(4, 5, dtype=torch.bool)
    mask[1, 2] = mask[3, 4] = True
    assert bounding_box(mask) == (1, 2, 3, 4)
    last_row = torch.zeros(4, 5, dtype=torch.bool)
    last_row[3, 1:3] = True
    assert bounding_box(last_row) is None
    assert bounding_box(torch.ones(1, 1, dtype=torch.bool)) == (0, 0, 1, 1)


@pytest.mark.parametrize(
    ('direction', 'expected'),
    [
        (None, [[1, 2], [3, 4]]),
        ('horizontal', [[2, 1], [4, 3]]),
        ('vertical', [[3, 4], [1, 2]]),
        ('diagonal', [[4, 3], [2, 1]]),
    ],
)
def test_maps_are_flipped_back(direction, expected):
    maps = torch.tensor([[1, 2], [3, 4]])[None]
    assert flip_back(maps, direction)[0].tolist() == expected
