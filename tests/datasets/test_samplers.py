"""Batches of one patch grid: every image once, nothing mixed, and the same results."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmengine.config import Config
from mmengine.dataset import DefaultSampler
from mmengine.runner import Runner
from mmpretrain.datasets import CustomDataset
from PIL import Image, ImageFile

from mmtagclip.datasets import SameGridBatchSampler, same_grid_batches
from mmtagclip.images import image_size, read_image
from tests.conftest import picture

PIPELINE = [
    {'type': 'mmtagclip.LoadImage', 'on_error': 'skip'},
    {'type': 'mmtagclip.ResizeToPatchGrid', 'patch_size': 16},
    {'type': 'mmpretrain.PackInputs', 'meta_keys': ['sample_idx', 'img_path', 'load_error']},
]
SIZES = [(64, 96), (48, 80), (60, 90), (96, 64), (64, 96), (50, 81), (64, 91), (48, 80)]


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    """Eight pictures of three grids, one of them turned by its EXIF entry, and no picture."""
    folder = tmp_path_factory.mktemp('photos')
    for i, size in enumerate(SIZES):
        exif = Image.Exif()
        if i == 3:
            exif[274] = 6
        Image.fromarray(picture(*size, i)).save(folder / f'{i}.jpg', exif=exif)
    (folder / '8.jpg').write_bytes(b'damaged')
    return folder


def dataset(photos, pipeline=PIPELINE):
    return CustomDataset(
        data_prefix=str(photos), with_label=False, pipeline=pipeline, test_mode=True
    )


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(1, 5))
def test_every_image_once_and_only_equal_grids_together(grids, size):
    batches = same_grid_batches(range(len(grids)), grids.__getitem__, size)
    assert sorted(index for batch in batches for index in batch) == list(range(len(grids)))
    assert all(1 <= len(batch) <= size for batch in batches)
    assert all(len({grids[index] for index in batch}) == 1 for batch in batches)
    full = sum(grids.count(grid) // size for grid in set(grids))
    assert sum(len(batch) == size for batch in batches) == full
    if grids:
        assert batches[-1][-1] == len(grids) - 1


def test_size_from_the_header_is_the_size_that_is_read(photos):
    for i in range(len(SIZES)):
        assert image_size(photos / f'{i}.jpg') == read_image(photos / f'{i}.jpg').shape[:2]
    assert image_size(photos / '3.jpg') == (64, 96)  # lies on its side in the file
    with pytest.raises(ValueError, match=r'8\.jpg is not an image'):
        image_size(photos / '8.jpg')


@pytest.mark.parametrize('suffix', ['jpg', 'png', 'tiff', 'webp'])
@pytest.mark.parametrize('orientation', [1, 3, 6, 8])
def test_size_of_a_turned_picture_of_any_kind(tmp_path, monkeypatch, suffix, orientation):
    exif, path = Image.Exif(), tmp_path / f'turned.{suffix}'
    exif[274] = orientation
    Image.fromarray(picture(48, 80, 0)).save(path, exif=exif)
    size = read_image(path).shape[:2]
    monkeypatch.setattr(ImageFile.ImageFile, 'load', None)  # nothing is decoded
    assert image_size(path) == size == ((80, 48) if orientation > 4 else (48, 80))


def test_groups_by_what_the_pipeline_makes_of_an_image(photos):
    sampler = SameGridBatchSampler(DefaultSampler(dataset(photos), shuffle=False), 3)
    batches = list(sampler)
    assert len(sampler) == len(batches)
    # 60x90 and 64x91 become 64x96; 50x81 becomes 64x96 too.
    assert batches == [[0, 2, 3], [4, 5, 6], [1, 7], [8]]


def test_indices_that_can_be_asked_for_once(photos):
    sampler = SameGridBatchSampler(DefaultSampler(dataset(photos), shuffle=False), 3)
    assert sampler.batches(iter(range(9))) == list(sampler)


def test_max_side_decides_too(photos):
    shrink = [PIPELINE[0], {**PIPELINE[1], 'max_side': 32}, PIPELINE[2]]
    sampler = SameGridBatchSampler(DefaultSampler(dataset(photos, shrink), shuffle=False), 9)
    assert list(sampler) == [[0, 1, 2, 3, 4, 5, 6, 7], [8]]


@pytest.mark.parametrize(
    ('pipeline', 'size', 'message'),
    [
        ([PIPELINE[0]], 2, 'needs mmtagclip.ResizeToPatchGrid in the pipeline'),
        (PIPELINE, 0, 'needs batch_size >= 1, not 0'),
    ],
)
def test_bad_use(photos, pipeline, size, message):
    with pytest.raises(ValueError, match=message):
        SameGridBatchSampler(DefaultSampler(dataset(photos, pipeline)), size)


def config(encoder_config, photos, **loader):
    return {
        'default_scope': 'mmpretrain',
        'model': {
            'type': 'mmtagclip.TagCLIP',
            'encoder': encoder_config,
            'classes': ['dog', 'cat', 'bus'],
            'background': ['sky'],
            'templates': ['{}'],
            'head': {
                'type': 'mmtagclip.TagCLIPHead',
                'threshold': 0.3,
                'dmar': {'type': 'mmtagclip.DMAR', 'layers': [8, 9, 10]},
                'cwr': {'type': 'mmtagclip.CWR'},
            },
        },
        'test_dataloader': {
            'num_workers': 0,
            'collate_fn': {'type': 'pseudo_collate'},
            'sampler': {'type': 'DefaultSampler', 'shuffle': False},
            **loader,
            'dataset': {
                'type': 'mmpretrain.CustomDataset',
                'data_prefix': str(photos),
                'with_label': False,
                'test_mode': True,
                'pipeline': PIPELINE,
            },
        },
        'test_evaluator': [],
        'test_cfg': {},
        'log_level': 'ERROR',
    }


def scores(encoder_config, photos, **loader):
    """Scores of each image, by the runner's own data loader."""
    runner = Runner.from_cfg(
        Config({**config(encoder_config, photos, **loader), 'work_dir': str(photos.parent / 'run')})
    )
    runner.test_loop  # noqa: B018  builds it
    found = {}
    for batch in runner.test_loop.dataloader:
        for sample in runner.model.test_step(batch):
            found[sample.sample_idx] = sample.pred_score
    return torch.stack([found[index] for index in range(len(SIZES) + 1)])


def test_grouped_images_get_the_scores_that_they_get_alone(encoder_config, photos):
    one_by_one = scores(encoder_config, photos, batch_size=1)
    grouped = scores(
        encoder_config,
        photos,
        batch_size=4,
        batch_sampler={'type': 'mmtagclip.SameGridBatchSampler'},
    )
    np.testing.assert_allclose(grouped, one_by_one, atol=2e-6)
