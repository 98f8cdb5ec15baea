"""Map correction: a plain twin, odd regions, and every kind of segmentor."""

import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mmtagclip.models import MapCorrection, Masks
from mmtagclip.registry import MODELS
from tests import twins
from tests.golden.regions.stand_ins import region_map
from tests.models.segmentors.test_direct import batch


def correct(labels, regions, **kwargs):
    masks = Masks(torch.from_numpy(labels), None, [])
    found = MapCorrection(**kwargs)(masks, SimpleNamespace(regions=regions))
    assert found.dtype == torch.int64
    return found.numpy()


@pytest.mark.parametrize('lowest', [False, True])
@pytest.mark.parametrize(
    'seed, size, cells', [(0, (1, 1), (1, 0)), (1, (9, 14), (5, 0)), (2, (30, 23), (40, 7))]
)
def test_agrees_with_the_plain_twin(seed, size, cells, lowest):
    random = np.random.RandomState(seed)
    labels = random.choice([0, 1, 2, 171, 255], size)
    regions = region_map(*size, seed, *cells).astype(np.int32)
    expected = twins.map_correction(labels, regions, regions.min() if lowest else 0)
    assert np.array_equal(correct(labels, regions, lowest_is_none=lowest), expected)


def test_ties_and_pixels_without_a_region():
    labels = np.array([[3, 1, 3, 1], [7, 255, 255, 0]])
    regions = np.array([[5, 5, 5, 5], [0, 9, 9, 9]])
    assert correct(labels, regions).tolist() == [[1, 1, 1, 1], [7, 255, 255, 255]]
    # The lowest id is a real region's here.
    assert correct(labels, regions + 1, lowest_is_none=True).tolist() == [
        [1, 1, 1, 1],
        [7, 255, 255, 255],
    ]
    assert correct(labels[:1], regions[:1], lowest_is_none=True).tolist() == [[3, 1, 3, 1]]


def test_a_million_regions_are_a_matter_of_seconds():
    """One per pixel, which changes nothing; in CPU time of this process."""
    labels = np.random.RandomState(0).randint(0, 171, (1000, 1000))
    regions = np.arange(1, 10**6 + 1).reshape(1000, 1000)
    start = time.process_time()
    assert np.array_equal(correct(labels, regions), labels)
    assert time.process_time() - start < 10


@pytest.mark.parametrize('kind', ['CLSSeg', 'DirectSegmentor'])
def test_every_segmentor_corrects_its_labels(encoder_config, kind):
    changes = {
        'CLSSeg': {
            'tagger': {
                'type': 'mmtagclip.TagCLIP',
                'encoder': encoder_config,
                'head': {'type': 'mmtagclip.TagCLIPHead', 'threshold': 0.1},
                'classes': ['dog', 'cat', 'bus'],
                'background': ['sky'],
                'templates': ['a {}.'],
            },
            'affinity': {'type': 'mmtagclip.AffinityRefinement'},
            'background_prompts': ['sky'],
        },
        'DirectSegmentor': {
            'encoder': encoder_config,
            'head': {
                'type': 'mmtagclip.SegTextHead',
                'classes': ['dog', 'cat', 'bus'],
                'templates': ['a {}.'],
            },
        },
    }[kind]
    config = {'type': f'mmtagclip.{kind}', **changes}
    plain = MODELS.build(config)
    corrected = MODELS.build(
        {**config, 'tagger': plain.tagger, 'label_processor': {'type': 'mmtagclip.MapCorrection'}}
    )
    assert (plain.needs_regions, corrected.needs_regions) == (False, True)
    regions = region_map(64, 96, 4, 6, 1)
    (before,) = plain.test_step(batch((64, 96, 3)))
    (after,) = corrected.test_step(batch((64, 96, 3), regions=regions))
    labels = before.pred_sem_seg.data[0].numpy()
    expected = twins.map_correction(labels, regions, 0)
    assert not np.array_equal(expected, labels)
    assert np.array_equal(after.pred_sem_seg.data[0].numpy(), expected)
    with pytest.raises(ValueError, match='needs the regions of the image'):
        corrected.test_step(batch((64, 96, 3)))
    with pytest.raises(ValueError, match='is 96x64 pixels, but its regions are 64x96'):
        corrected.test_step(batch((64, 96, 3), regions=regions.T))
