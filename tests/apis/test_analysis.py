"""An image that is encoded once answers as the inferencers do."""

import numpy as np
import pytest
import torch

from mmtagclip.apis import Analysis, SegInferencer, TagInferencer, list_images
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
def test_each_step_equals_the_config_of_it(analysis, step, config):
    (expected,) = TagInferencer(config, show_progress=False)(IMAGE, score_maps=True)
    got = analysis.stages()[step]
    np.testing.assert_allclose(got.scores, expected.scores, atol=1e-5)
    np.testing.assert_allclose(got.score_maps, expected.score_maps, atol=1e-5)
    assert got.tags.keys() == expected.tags.keys()


def test_each_step_scores_patches_as_the_head_does(analysis, segmentor, monkeypatch):
    class Even(torch.nn.Module):
        def forward(self, patches):
            return torch.full((*patches.shape[:2], len(tagger.text)), 1 / len(tagger.text))

    tagger = segmentor.model.tagger
    monkeypatch.setattr(tagger.head, 'scorer', Even())
    assert analysis.stages()['coarse'].scores == pytest.approx(1 / len(tagger.text))


def test_other_names_and_thresholds_need_no_encoding(analysis, segmentor, no_encoding):
    names = ['mushroom', 'camera', 'zebra']
    asked = segmentor.names_for(names)
    (all_tags, tags) = (analysis.stages(asked, threshold=k)['CWR'] for k in (0.0, 0.95))
    assert tags.classes == tuple(names)
    assert len(tags.tags) < len(all_tags.tags)
    masks = analysis.masks(asked, tags)
    assert masks.tags == tags.tags
    assert masks.classes == ('background', *names)


def test_masks_equal_the_inferencers(analysis, segmentor):
    (expected,) = segmentor(IMAGE)
    got = analysis.masks(tags=analysis.stages()['CWR'])
    assert np.array_equal(analysis.masks().mask, got.mask)
    assert np.array_equal(got.mask, expected.mask)
    assert got.tags == pytest.approx(expected.tags)


def test_the_background_level_is_that_of_the_maps(analysis, no_encoding):
    """More of it, more background; at each level the published formula with its exponent."""
    tags = analysis.stages()['CWR']
    shares = [
        analysis.masks(tags=tags, background_level=level).shares.get('background', 0.0)
        for level in (0.2, 0.5, 0.8)
    ]
    assert shares == sorted(shares)
    assert shares[0] < shares[2]
    for level in (0.0, 1.0):
        with pytest.raises(ValueError, match='background level must be in'):
            analysis.masks(tags=tags, background_level=level)


def test_a_tagger_alone_and_a_head_of_another_kind():
    tagger = TagInferencer('clip_demo', show_progress=False).model
    result = Analysis(tagger, IMAGE.read()).stages()
    assert list(result) == ['scores']
    assert result['scores'].score_maps is None


@pytest.mark.parametrize('config', ['direct_demo', 'tag-guided_demo'])
def test_segmentors_of_the_other_kind(config, monkeypatch):
    """Masks of any names, with tags where there is a tagger, and no second encoding."""
    inferencer = SegInferencer(config, show_progress=False)
    names, background = ['mushroom', 'camera', 'zebra'], ['wall']
    (expected,) = inferencer(IMAGE)
    (other,) = inferencer(IMAGE, classes=names, background=background)
    analysis = Analysis(inferencer, IMAGE.read())
    monkeypatch.setattr(DenseEncoder, 'forward', None)
    assert np.array_equal(analysis.masks().mask, expected.mask)
    asked = inferencer.names_for(names, background)
    stages = analysis.stages(asked)
    assert list(stages) == ([] if inferencer.model.tagger is None else ['coarse', 'DMAR', 'CWR'])
    masks = analysis.masks(asked, stages.get('CWR'))
    assert masks.classes == other.classes == ('background', *names)
    assert np.array_equal(masks.mask, other.mask)
    assert masks.tags == pytest.approx(other.tags)
    levels = (0.1, 0.9)
    shares = [
        analysis.masks(asked, background_level=level).shares.get('background', 0.0)
        for level in levels
    ]
    assert shares[0] < shares[1]


def test_what_is_not_analysed(analysis):
    with pytest.raises(TypeError, match='a TagCLIP or a training-free segmentor is needed, not'):
        Analysis(torch.nn.Identity(), IMAGE.read())
    direct = SegInferencer('direct_demo', show_progress=False)
    with pytest.raises(ValueError, match='has no tagger, so it takes no threshold'):
        Analysis(direct, IMAGE.read()).stages(threshold=0.5)
    with pytest.raises(ValueError, match='threshold must be in'):
        analysis.stages(threshold=2)
