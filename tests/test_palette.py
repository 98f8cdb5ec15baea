"""Colours that anybody can tell apart."""

import cv2
import numpy as np
import pytest

from mmtagclip.palette import BASE, BLINDNESS, appearance, class_colours, difference


def apart(count):
    """``(count, count)`` distances for the vision that tells two colours apart the least."""
    looks = appearance(class_colours(count))
    return np.stack([difference(looks[:, i : i + 1], looks) for i in range(count)])


def test_a_class_keeps_its_colour_if_others_follow():
    colours = class_colours(300)
    assert colours[:7] == list(BASE)
    assert class_colours(20) == colours[:20]
    assert len(set(colours[:255])) == 255
    assert (0, 0, 0) not in colours
    assert colours[255:] == colours[:45]


@pytest.mark.parametrize('count, least', [(8, 16), (20, 6.4), (80, 5.4), (171, 3.8)])
def test_colours_are_apart_for_all_kinds_of_colour_vision(count, least):
    distances = apart(count)[np.triu_indices(count, 1)]
    assert distances.min() >= least


def test_neighbours_are_further_apart():
    """Classes of one kind, such as animals, have numbers in a row."""
    distances = apart(171)
    assert min(distances[i, j] for i in range(171) for j in range(max(0, i - 12), i)) >= 11.5


def test_appearance():
    looks = appearance([(255, 0, 0), (128, 128, 128), (10, 200, 70)])
    assert looks.shape == (4, 3, 3)
    full = cv2.cvtColor(np.float32([[[10 / 255, 200 / 255, 70 / 255]]]), cv2.COLOR_RGB2Lab)
    assert np.allclose(looks[0, 2], full[0, 0], atol=0.2)
    assert np.abs(looks[:, 1] - looks[0, 1]).max() < 0.5  # grey is grey to everybody
    # Red and green differ in little but lightness without the cones for green.
    red, green = appearance([(200, 0, 0)]), appearance([(0, 130, 0)])
    assert np.linalg.norm((red - green)[2, 0, 1:]) < np.linalg.norm((red - green)[0, 0, 1:]) / 4


def test_grey_is_grey_without_any_cones():
    """The published matrices keep greys, so a mistyped figure of them shows."""
    assert np.allclose(np.array(BLINDNESS).sum(-1), 1, rtol=0, atol=2e-6)
    # Tritanopia mixes blue and green, the two others red and green.
    looks = appearance([(0, 130, 0), (0, 0, 200), (200, 0, 0)])
    assert [difference(looks[[kind], :1], looks[[kind], 1:]).argmin() for kind in range(4)] == [
        1, 1, 1, 0,
    ]  # fmt: skip
