"""Objects of COCO's files."""

import numpy as np
import pytest

from mmtagclip.datasets.coco import MAX_PIXELS, image_size, object_mask


@pytest.mark.parametrize(
    ('segmentation', 'message'),
    [
        (None, 'annotation 7: its segmentation must be'),
        ([[0, 0, 9e8, 0, 9e8, 9e8]], 'in or near the image'),
        ([[0, 0, 4, 0, 4, float('nan')]], 'in or near the image'),
        ([[0, 0, 4, 0, 4, -7]], 'in or near the image'),
        ([[0, 0, 4, 0, 4, True]], 'in or near the image'),
        ([[0, 0, 4, 0, 4]], 'at least 3 corners'),
        ([[0, 0, 4, 0]], 'at least 3 corners'),
        ([[0, 0, 4, 0, 4, 4, 1]], 'at least 3 corners'),
        ([0, 0, 4, 0, 4, 4], 'lists of at least 3 corners'),
        (['abcdef'], 'lists of at least 3 corners'),
        ({'size': [6, 8], 'counts': [49]}, 'annotation 7: its run lengths are damaged'),
        ({'size': [8, 6], 'counts': [48]}, r'an object with "size": \[6, 8\]'),
    ],
)
def test_segmentations_that_would_end_the_process(segmentation, message):
    with pytest.raises(ValueError, match=message):
        object_mask({'id': 7, 'segmentation': segmentation}, {'height': 6, 'width': 8})


@pytest.mark.parametrize('size', [(0, 8), (6, None), (6.0, 8), (10**5, 10**5), (True, 8)])
def test_sizes_that_no_image_has(size):
    with pytest.raises(ValueError, match=r"the image 'a.jpg' has the height and width \("):
        image_size({'file_name': 'a.jpg', 'height': size[0], 'width': size[1]})


def test_the_smallest_image_has_one_pixel():
    assert image_size({'height': 1, 'width': 1}) == (1, 1)
    assert image_size({'height': 1, 'width': MAX_PIXELS}) == (1, MAX_PIXELS)
    with pytest.raises(ValueError, match='height and width'):
        image_size({'height': 1, 'width': MAX_PIXELS + 1})


def test_pixels_of_an_object():
    image = {'height': 6, 'width': 8}
    found = object_mask({'segmentation': [[1, 1, 16, 1, 16, 5, 1, 5]]}, image)
    expected = np.zeros((6, 8), bool)
    expected[1:5, 1:] = True
    np.testing.assert_array_equal(found, expected)
    assert not object_mask({'segmentation': []}, image).any()
    assert object_mask({'segmentation': {'size': [6, 8], 'counts': [47, 1]}}, image).sum() == 1


def test_a_triangle_is_the_smallest_polygon():
    found = object_mask({'segmentation': [[1, 1, 5, 1, 1, 5]]}, {'height': 6, 'width': 8})
    assert found[1, 1]
    assert 6 <= found.sum() <= 10
