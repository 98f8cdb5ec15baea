"""The tagger as a classifier of MMPretrain."""

from copy import deepcopy

import pytest
import torch
from mmpretrain.structures import DataSample

from mmtagclip.models import TagCLIP, relative_threshold
from mmtagclip.registry import MODELS
from tests.conftest import NARROW, TINY, normalised, picture

HEAD = {
    'type': 'mmtagclip.TagCLIPHead',
    'cwr': {'type': 'mmtagclip.CWR', 'threshold': 0.1},
    'dmar': {'type': 'mmtagclip.DMAR', 'layers': (8, 9, 10)},
}
NAMES = ['dog', 'cat', 'bus', 'tree', 'traffic light']


@pytest.fixture(scope='module')
def config(encoder_config):
    return {
        'type': 'mmtagclip.TagCLIP',
        'encoder': encoder_config,
        'head': HEAD,
        'classes': NAMES,
        'background': ['sky', 'grass'],
        'templates': ['a photo of a {}.'],
    }


@pytest.fixture(scope='module')
def tagger(config):
    return MODELS.build(deepcopy(config))


def batch(*sizes):
    """A batch as the data loader gives it: BGR uint8 images of any sizes."""
    images = [
        torch.from_numpy(picture(h, w, seed)[..., ::-1].copy()).permute(2, 0, 1)
        for h, w, seed in sizes
    ]
    samples = [DataSample(metainfo={'img_path': f'{i}.jpg'}) for i in range(len(images))]
    return {'inputs': images, 'data_samples': samples}


def test_predict_fills_scores_labels_and_tags(tagger):
    (sample,) = tagger.test_step(batch((64, 96, 1)))
    assert sample.pred_score.shape == (5,)
    expected = relative_threshold(sample.pred_score, 0.5).nonzero().flatten()
    assert torch.equal(sample.pred_label, expected)
    assert sample.tags == [NAMES[label] for label in expected]
    assert 'score_maps' not in sample


def test_mixed_sizes_equal_one_by_one(tagger):
    sizes = [(64, 96, 1), (96, 64, 2), (64, 96, 3), (16, 16, 4)]
    together = tagger.test_step(batch(*sizes))
    for sample, size in zip(together, sizes, strict=True):
        (alone,) = tagger.test_step(batch(size))
        torch.testing.assert_close(sample.pred_score, alone.pred_score, atol=2e-5, rtol=0)
        assert sample.tags == alone.tags


def test_equal_sizes_are_one_batch(tagger, monkeypatch):
    seen = []
    forward = tagger.encoder.forward
    monkeypatch.setattr(
        tagger.encoder,
        'forward',
        lambda images, *args, **more: seen.append(len(images)) or forward(images, *args, **more),
    )
    tagger.test_step(batch((64, 96, 1), (96, 64, 2), (64, 96, 3)))
    assert sorted(seen) == [1, 2]


def test_preprocessor_normalises_rgb_without_padding(tagger):
    data = tagger.data_preprocessor(batch((64, 96, 1), (32, 48, 2)))
    torch.testing.assert_close(data['inputs'][0][None], normalised(tagger.encoder, 64, 96, 1))
    torch.testing.assert_close(data['inputs'][1][None], normalised(tagger.encoder, 32, 48, 2))


def test_score_maps_on_request(config):
    tagger = MODELS.build({**deepcopy(config), 'with_score_maps': True})
    (sample,) = tagger.test_step(batch((64, 96, 1)))
    assert sample.score_maps.shape == (5, 4, 6)


def test_tensor_mode_gives_scores(tagger):
    data = tagger.data_preprocessor(batch((64, 96, 1), (32, 32, 2)))
    scores = tagger(data['inputs'])
    samples = tagger(**data, mode='predict')
    assert torch.equal(scores, torch.stack([sample.pred_score for sample in samples]))


def test_loss_says_that_there_is_nothing_to_train(tagger):
    with pytest.raises(NotImplementedError, match='training-free: there is nothing to train'):
        tagger(**batch((64, 96, 1)), mode='loss')
    with pytest.raises(ValueError, match="not 'train'"):
        tagger(**batch((64, 96, 1)), mode='train')


def test_an_unreadable_image_gets_no_tags_and_is_not_counted_in_metrics(tagger):
    data = batch((64, 96, 1), (64, 96, 2))
    data['inputs'][0] = torch.zeros(3, 0, 0, dtype=torch.uint8)
    data['data_samples'][0].set_metainfo({'load_error': 'gone', 'gt_label_difficult': [1]})
    bad, good = tagger.test_step(data)
    assert bad.tags == []
    assert bad.pred_score.tolist() == [0] * 5
    assert bad.gt_score.tolist() == [-1] * 5
    assert bad.gt_label_difficult == []
    (alone,) = tagger.test_step(batch((64, 96, 2)))
    torch.testing.assert_close(good.pred_score, alone.pred_score, atol=2e-5, rtol=0)


def test_a_batch_of_unreadable_images_only(tagger):
    data = {
        'inputs': [torch.zeros(3, 0, 0, dtype=torch.uint8)],
        'data_samples': [DataSample(metainfo={'load_error': 'gone'})],
    }
    assert tagger.test_step(data)[0].tags == []


def test_nan_names_the_image(config, clip):
    broken = deepcopy(clip)
    broken.visual.ln_post.bias.data[0] = float('nan')
    encoder = {'type': 'mmtagclip.CLIPEncoder', 'model': broken, 'text_cache': False}
    tagger = TagCLIP(encoder=encoder, head=HEAD, classes=NAMES, templates=['{}'])
    with pytest.raises(ValueError, match=r'^0\.jpg: the features .* are not finite'):
        tagger.test_step(batch((64, 96, 1)))
    with pytest.raises(ValueError, match=r'^the features .* are not finite'):  # of no known file
        tagger.test_step({'inputs': batch((64, 96, 1))['inputs']})


@pytest.mark.parametrize('head', [HEAD, {'type': 'mmtagclip.ClassTokenHead'}])
def test_nan_behind_the_patches_is_an_error_too(config, head, monkeypatch):
    tagger = MODELS.build({**deepcopy(config), 'head': head})
    for name in ('encode_class_token', 'ordinary_class_token'):
        original = getattr(tagger.encoder, name)
        monkeypatch.setattr(
            tagger.encoder, name, lambda *args, original=original: original(*args) * float('nan')
        )
    with pytest.raises(ValueError, match=r'^0\.jpg: the scores .* are not finite'):
        tagger.test_step(batch((96, 80, 5)))


def test_autocast_changes_nothing(tagger):
    (plain,) = tagger.test_step(batch((96, 80, 5)))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        (cast,) = tagger.test_step(batch((96, 80, 5)))
    assert torch.equal(plain.pred_score, cast.pred_score)


@pytest.mark.parametrize('dtype', NARROW)
def test_narrow_dtypes_give_float32_scores(config, tagger, dtype):
    narrow = MODELS.build({**deepcopy(config), 'encoder': {**config['encoder'], 'dtype': dtype}})
    (sample,) = narrow.test_step(batch((96, 80, 5)))
    (exact,) = tagger.test_step(batch((96, 80, 5)))
    assert sample.pred_score.dtype == torch.float32
    assert (sample.pred_score - exact.pred_score).abs().max() < 0.3


def test_mean_and_std_of_weights_that_do_not_tell(config):
    other = {'mean': [0.5, 0.5, 0.5], 'std': [0.25, 0.25, 0.25]}
    tagger = MODELS.build(
        {
            **deepcopy(config),
            'encoder': {**config['encoder'], **other},
            'data_preprocessor': {'type': 'mmtagclip.CLIPDataPreprocessor', **other},
        }
    )
    assert tagger.encoder.mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ('change', 'error', 'message'),
    [
        (
            {'head': {**HEAD, 'dmar': {'type': 'mmtagclip.DMAR', 'layers': (8,), 'votes': 13}}},
            ValueError,
            'votes=13, but .* has only 12 layers',
        ),
        ({'classes': []}, ValueError, 'classes is empty'),
        ({'classes': ['dog', 'dog']}, ValueError, 'more than once'),
        ({'background': ['sky', 'dog']}, ValueError, r"more than once: \['dog'\]"),
        ({'templates': ['a photo']}, ValueError, 'exactly once'),
        ({'classes': ['dog ' * 90]}, ValueError, 'more than 77 tokens'),
        (
            {'head': {**HEAD, 'dmar': {'type': 'mmtagclip.DMAR', 'layers': (16,)}}},
            ValueError,
            'attention of layer 16.*0 to 11',
        ),
        (
            {
                'data_preprocessor': {
                    'type': 'mmtagclip.CLIPDataPreprocessor',
                    'mean': [0.5, 0.5, 0.5],
                }
            },
            ValueError,
            r'trained with mean=\(0\.48.*has \[0\.5',
        ),
        (
            {
                'data_preprocessor': {
                    'type': 'mmtagclip.CLIPDataPreprocessor',
                    'std': [0.25, 0.25, 0.25],
                }
            },
            ValueError,
            r'trained with std=\(0\.26.*has \[0\.25',
        ),
        (
            {'data_preprocessor': {'type': 'mmpretrain.ClsDataPreprocessor'}},
            ValueError,
            'the data preprocessor has None',
        ),
    ],
)
def test_bad_configs(config, change, error, message):
    with pytest.raises(error, match=message):
        MODELS.build({**deepcopy(config), **change})


@pytest.mark.parametrize(
    'policy', ['Ordinary', 'SCLIP', 'ClearCLIP', 'NACLIP', 'ITACLIP', 'SCCLIP']
)
def test_config_chooses_the_last_block(config, tagger, policy):
    """Every policy feeds DMAR and CWR, in batches as alone."""
    encoder = {
        **config['encoder'],
        'last_block': {'type': f'mmtagclip.{policy}LastBlock'},
        'positions': 'bicubic_scale',
    }
    other = MODELS.build({**deepcopy(config), 'encoder': encoder})
    sizes = [(96, 80, 1), (64, 64, 2), (96, 80, 3), (96, 80, 4)]
    plain, together = tagger.test_step(batch(*sizes)), other.test_step(batch(*sizes))
    for value_only, sample, size in zip(plain, together, sizes, strict=True):
        (alone,) = other.test_step(batch(size))
        torch.testing.assert_close(sample.pred_score, alone.pred_score, atol=2e-5, rtol=0)
        assert (value_only.pred_score - sample.pred_score).abs().max() > 1e-4


def test_text_is_no_part_of_a_checkpoint(tagger):
    assert 'text' not in tagger.state_dict()


def test_architecture_in_a_config_is_not_changed_by_building(config):
    assert config['encoder']['model'] == TINY
