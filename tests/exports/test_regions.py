"""Regions of masks: boxes, run lengths, outlines."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from scipy import ndimage

from mmtagclip.exports.regions import class_regions, connected_regions, run_lengths
from mmtagclip.labels import IGNORED


def random_mask(seed):
    chance = np.random.RandomState(seed)
    height, width = chance.randint(1, 20, 2)
    return chance.choice([0, 1, 2, IGNORED], (height, width), p=[0.5, 0.3, 0.15, 0.05]).astype(
        np.uint8
    )


@pytest.mark.parametrize('background', [0, None])
def test_regions_of_a_class_are_its_pixels(background):
    for seed in range(50):
        mask = random_mask(seed)
        regions = list(class_regions(mask, background))
        wanted = set(np.unique(mask).tolist()) - {background, IGNORED}
        assert {region.label for region in regions} == wanted
        areas = [region.area for region in regions]
        assert areas == sorted(areas, reverse=True)
        for region in regions:
            inside = mask == region.label
            assert (region.full(mask.shape) == inside).all()
            runs = run_lengths(region, mask.shape)
            assert (coco_mask.decode(runs) == inside).all()
            assert coco_mask.toBbox(runs).tolist() == list(region.box)


def test_connected_regions_are_those_of_scipy():
    for seed in range(50):
        mask = random_mask(seed)
        for min_area in (1, 4):
            found = [
                (region.label, region.full(mask.shape).tobytes())
                for region in connected_regions(mask, 0, min_area)
            ]
            wanted = []
            for label in set(np.unique(mask).tolist()) - {0, IGNORED}:
                numbers, count = ndimage.label(mask == label, np.ones((3, 3)))
                parts = [numbers == number for number in range(1, count + 1)]
                wanted += [(label, one.tobytes()) for one in parts if one.sum() >= min_area]
            assert sorted(found) == sorted(wanted)


def test_an_exact_outline_encloses_the_region_and_its_holes():
    for seed in range(100):
        mask = random_mask(seed)
        for region in connected_regions(mask, 0):
            corners = region.outline()
            polygon = [float(side) for corner in corners for side in corner]
            runs = coco_mask.frPyObjects([polygon], *map(int, mask.shape))
            # Pixels outside the region that only its corners hold together are no hole.
            filled = ndimage.binary_fill_holes(region.full(mask.shape))
            assert (coco_mask.decode(runs)[..., 0] == filled).all()


def test_a_loose_outline_is_near_and_shorter():
    rows, columns = np.mgrid[:60, :60]
    disc = ((rows - 30) ** 2 + (columns - 30) ** 2 < 25**2).astype(np.uint8)
    (region,) = connected_regions(disc, 0)
    exact, loose = region.outline(), region.outline(1.0)
    assert len(loose) < len(exact) / 2
    runs = coco_mask.frPyObjects([[float(s) for c in loose for s in c]], 60, 60)
    distance = ndimage.distance_transform_edt(disc) + ndimage.distance_transform_edt(1 - disc)
    wrong = coco_mask.decode(runs)[..., 0] != disc
    assert wrong.any()
    assert distance[wrong].max() <= 1.5


@pytest.mark.parametrize('tolerance', [0.0, 5.0])
def test_one_pixel_has_an_outline(tolerance):
    mask = np.zeros((4, 5), dtype=np.uint8)
    mask[2, 3] = 1
    (region,) = connected_regions(mask, 0)
    assert sorted(region.outline(tolerance)) == [(3, 2), (3, 3), (4, 2), (4, 3)]
