"""Regions by SAM and SAM 2: published ids, painting, and what is refused."""

import shutil
from functools import partial

import numpy as np
import pytest

from mmtagclip.jobs.identity import identity
from mmtagclip.regions import RegionSource, SAM2Regions, SAMRegions, paint
from mmtagclip.regions.automatic import by_area
from mmtagclip.registry import MODELS
from tests.golden import GOLDEN
from tests.golden.weights import smooth_image
from tests.sam import sam_config, tiny_sam2

MASKS = np.load(GOLDEN / 'regions' / 'masks.npz')
IMAGE = smooth_image(128, 192, 5)


@pytest.fixture(scope='module')
def sam(tmp_path_factory):
    return MODELS.build(sam_config(tmp_path_factory.mktemp('sam')))


@pytest.fixture(scope='module')
def sam2(tmp_path_factory):
    return f'local-dir:{tiny_sam2(tmp_path_factory.mktemp("sam2"))}'


def test_published_regions(sam):
    source = SAMRegions(sam, points_per_side=6, min_quality=0.5, min_stability=0.1, max_overlap=1.0)
    assert isinstance(source, RegionSource)
    source.points_together = lambda image: 10  # however many are answered together
    masks = source.masks(IMAGE)
    assert sorted(one.sum() for one in masks) == sorted(MASKS['sam/area'])
    ids = paint(by_area(masks), IMAGE.shape[:2])
    assert ids.dtype == np.int32
    assert np.array_equal(ids, MASKS['sam/regions'])


def test_small_masks_hide_large_ones_if_asked():
    large, small, other = np.zeros((3, 6, 8), bool)
    large[:4, :6] = small[1:3, 1:3] = other[2:5, 4:] = True
    masks = [small, large, other]
    published = np.zeros((6, 8), int)
    published[2:5, 4:] = 2
    published[:4, :6] = 3
    assert np.array_equal(paint(by_area(masks), (6, 8)), published)
    sane = np.zeros((6, 8), int)
    sane[:4, :6] = 1
    sane[2:5, 4:] = 2
    sane[1:3, 1:3] = 3
    assert np.array_equal(paint(by_area(masks, True), (6, 8)), sane)
    assert not paint([], (6, 8)).any()


def test_memory_is_bounded_by_the_image(sam):
    source = SAMRegions(sam)
    together = [source.points_together(np.empty((side, side, 3))) for side in (64, 512, 1024, 9000)]
    assert together == [64, 64, 16, 1]


def test_an_image_without_a_mask_has_no_region(sam, sam2):
    assert not SAMRegions(sam, points_per_side=2, min_quality=1.0)(IMAGE).any()
    assert not SAM2Regions(sam2, points_per_side=2, min_quality=1.0)(IMAGE).any()


def test_sam_2_draws_one_mask_per_point_or_three(sam2):
    build = partial(
        SAM2Regions, sam2, points_per_side=3, min_quality=0, min_stability=0, max_overlap=1.0
    )
    single, three = build(single_mask=True), build()
    three.points_together = lambda image: 2
    assert len(single.masks(IMAGE)) <= 9 < len(three.masks(IMAGE)) <= 27
    ids = single(IMAGE)
    assert ids.shape == (128, 192)
    assert ids.max() >= 1


def test_what_prepares_the_images_of_sam_2_decides_the_regions(sam2, tmp_path):
    folder = tmp_path / 'sam2'
    shutil.copytree(sam2.removeprefix('local-dir:'), folder)
    path = folder / 'preprocessor_config.json'
    path.write_text(path.read_text().replace('0.485', '0.5'))
    facts = [identity(SAM2Regions(one)) for one in (sam2, f'local-dir:{folder}')]
    assert facts[0]['preprocessing']['image_mean'][0] == 0.485
    assert facts[1]['preprocessing']['image_mean'][0] == 0.5


def test_refusals(sam, sam2, tmp_path, monkeypatch):
    for key in ('min_quality', 'min_stability', 'max_overlap'):
        with pytest.raises(ValueError, match=rf'SAMRegions needs {key} in \[0, 1\], not 1.5'):
            SAMRegions(sam, **{key: 1.5})
    with pytest.raises(ValueError, match='points_per_side must be at least 1, not 0'):
        SAMRegions(sam, points_per_side=0)
    with pytest.raises(FileNotFoundError, match='there is no folder'):
        SAM2Regions(f'local-dir:{tmp_path}/none')
    with pytest.raises(ValueError, match="is local-dir:PATH or hf-hub:ORG/REPO, not 'sam2'"):
        SAM2Regions('sam2')
    with pytest.raises(FileNotFoundError, match='nothing is downloaded without asking'):
        SAM2Regions('hf-hub:nobody/sam2')
    (tmp_path / 'config.json').write_text('{"model_type": "vit"}')
    with pytest.raises(ValueError, match='is a model of the type vit, not a SAM 2'):
        SAM2Regions(f'local-dir:{tmp_path}')
    monkeypatch.setattr('mmtagclip.extras.find_spec', lambda name: None)
    with pytest.raises(ImportError, match=r"SAM 2 needs transformers: pip install -e '.\[sam\]'"):
        SAM2Regions(sam2)
