"""An image that is encoded once answers as the inferencers do."""

import numpy as np
import pytest
import torch

from mmtagclip.apis import Analysis, TagInferencer, list_images
from mmtagclip.clip import DenseEncoder
from tests.apis.conftest import SCENES

(IMAGE,) = list_images(SCENES / '000045.jpg')


@pytest.fixture(scope='module')
def segmentor(demo_segmentor):
    return demo_segmentor


@pytest.fixture(scope='module')
def analysis(segmentor):
    return Analysis(segmentor.model, IMAGE.read())


@pytest.fixture
def no_encoding(monkeypatch):
    def forward(*args, **kwargs):
        raise AssertionError('the encoder ran')

    monkeypatch.setattr(DenseEncoder, 'forward', forward)


@pytest.mark.parametrize(
    'step, config', [('coarse', 'coarse_demo'), ('DMAR', 'dmar_demo'), ('CWR', 'tagclip_demo')]
)
def test_each_step_equals_the_config_of_it(analysis, segmentor, step, config):
    (expected,) = TagInferencer(config, show_progress=False)(IMAGE, score_maps=True)
    got = analysis.stages(segmentor.model.tagger)[step]
    np.testing.assert_allclose(got.scores, expected.scores, atol=1e-5)
    np.testing.assert_allclose(got.score_maps, expected.score_maps, atol=1e-5)
    assert got.tags.keys() == expected.tags.keys()


def test_each_step_scores_patches_as_the_head_does(analysis, segmentor):
    class Even(torch.nn.Module):
        def forward(self, patches):
            return torch.full((*patches.shape[:2], len(tagger.text)), 1 / len(tagger.text))

    tagger = segmentor.model.tagger.variant(threshold=0.5)
    tagger.head.scorer = Even()
    coarse = analysis.stages(tagger)['coarse']
    assert coarse.scores == pytest.approx(1 / len(tagger.text))
    assert segmentor.model.tagger.head.scorer is None


def test_other_names_and_thresholds_need_no_encoding(analysis, segmentor, no_encoding):
    names = ['mushroom', 'camera', 'zebra']
    variant = segmentor.model.variant(names, threshold=0.8)
    stages = analysis.stages(variant.tagger)
    assert stages['CWR'].classes == tuple(names)
    masks = analysis.masks(variant, stages['CWR'])
    assert masks.tags == stages['CWR'].tags


def test_masks_equal_the_inferencers(analysis, segmentor):
    (expected,) = segmentor(IMAGE)
    got = analysis.masks(segmentor.model, analysis.stages(segmentor.model.tagger)['CWR'])
    assert np.array_equal(got.mask, expected.mask)
    assert got.tags == pytest.approx(expected.tags)


def test_the_background_level_is_that_of_the_maps(analysis, segmentor, no_encoding):
    """More of it, more background; at each level the published formula with its exponent."""
    tags = analysis.stages(segmentor.model.tagger)['CWR']
    shares = [
        analysis.masks(segmentor.model, tags, level).shares.get('background', 0.0)
        for level in (0.2, 0.5, 0.8)
    ]
    assert shares == sorted(shares)
    assert shares[0] < shares[2]
    for level in (0.0, 1.0):
        with pytest.raises(ValueError, match='background level must be in'):
            analysis.masks(segmentor.model, tags, level)


def test_a_tagger_alone_and_a_head_of_another_kind():
    tagger = TagInferencer('clip_demo', show_progress=False).model
    result = Analysis(tagger, IMAGE.read()).stages(tagger)
    assert list(result) == ['scores']
    assert result['scores'].score_maps is None
