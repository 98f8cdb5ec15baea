"""Steps on maps."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from mmtagclip.models import maps
from mmtagclip.models.maps import far_edge, fill_boxes, flip_back, min_max
from mmtagclip.models.taggers.cwr import bounding_boxes
from tests import twins


def test_min_max_scales_to_0_and_1_and_makes_a_constant_1():
    x = torch.tensor([[1.0, 3.0, 2.0], [5.0, 5.0, 5.0]])
    assert min_max(x, dim=1).tolist() == [[0, 1, 0.5], [1, 1, 1]]


@pytest.mark.parametrize(
    ('end', 'size', 'edge'), [(5, 5, 4), (4, 5, 4), (3, 5, 3), (1, 1, 1), (2, 2, 1)]
)
def test_far_edge(end, size, edge):
    assert far_edge(torch.tensor(end), size) == edge


# What the CPU takes OpenCV for, and what runs on other devices.
REGION_BOXES = ('region_boxes_cpu', 'region_boxes')


def filled(binary, how):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(maps, 'region_boxes_cpu', getattr(maps, how))
        return fill_boxes(torch.as_tensor(binary, dtype=torch.bool))


@settings(deadline=None, max_examples=200)
@given(
    arrays(
        np.float32,
        array_shapes(min_dims=3, max_dims=3, min_side=2, max_side=12),
        elements=st.sampled_from(np.float32([0, 0.1, 0.3, 0.5, 0.8, 1]).tolist()),
    )
)
def test_fill_boxes_covers_what_boxes_of_contours_cover(score_maps):
    quantised = (score_maps * 255).astype(np.uint8)
    binary = [
        map_ > int(scores.mean() * map_.max())
        for map_, scores in zip(quantised, score_maps, strict=True)
    ]
    expected = [twins.box_mask(one) for one in score_maps]
    for how in REGION_BOXES:
        assert (filled(np.stack(binary), how).numpy() == expected).all(), how


@pytest.mark.parametrize('how', REGION_BOXES)
def test_fill_boxes_reaches_the_end_of_a_single_row_or_column(how):
    assert filled([[0, 1, 0, 0]], how).tolist() == [[False, True, False, False]]
    assert filled([[1]], how).tolist() == [[True]]
    assert filled([[0]], how).tolist() == [[False]]
    assert filled([[1], [0]], how).tolist() == [[True], [False]]
    assert filled([[[[0, 0]], [[1, 0]]]], how).tolist() == [[[[False] * 2], [[True, False]]]]


def test_a_long_winding_region_is_one_region(monkeypatch):
    """A spiral over 65x65 pixels is found with one wait of the host; many such are one call."""
    spiral = np.zeros((65, 65), bool)
    y, x, length, turn = 0, 0, 64, 0
    spiral[0, 0] = True
    for step in range(64):
        dy, dx = ((0, 1), (1, 0), (0, -1), (-1, 0))[turn]
        for _ in range(length):
            y, x = y + dy, x + dx
            spiral[y, x] = True
        turn = (turn + 1) % 4
        if step and step % 2 == 0:
            length -= 2
        if length <= 0:
            break
    assert spiral.sum() > 2000
    broken = spiral.copy()
    broken[0, 32] = False
    binary = torch.from_numpy(np.stack([spiral, broken, ~spiral]))
    waits = []
    equal = torch.equal
    monkeypatch.setattr(torch, 'equal', lambda *args: waits.append(1) or equal(*args))
    found = {tuple(one) for one in torch.stack(maps.region_boxes(binary), 1).tolist()}
    assert len(waits) <= 2
    expected = {tuple(one) for one in torch.stack(maps.region_boxes_cpu(binary), 1).tolist()}
    assert {one for one in found if one[1] < one[3]} == expected
    assert {one[0] for one in expected} == {0, 1, 2}


def test_bounding_boxes_clip_their_far_edges_and_say_which_are_empty():
    masks = torch.zeros(3, 4, 5, dtype=torch.bool)
    masks[0, 1, 2] = masks[0, 3, 4] = True
    masks[1, 3, 1:3] = True  # in the last row alone
    boxes, empty = bounding_boxes(masks)
    assert empty.tolist() == [False, True, True]
    assert boxes[0].tolist() == [1, 2, 3, 4]
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    boxes, empty = bounding_boxes(torch.ones(1, 1, 1, dtype=torch.bool))
    assert (boxes.tolist(), empty.tolist()) == ([[0, 0, 1, 1]], [False])


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
