"""Direct segmentation with CLIP-DINOiser's pooling: labels, background, and what excludes it."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from mmseg.structures import SegDataSample

from mmtagclip.models import SegTextHead
from mmtagclip.registry import MODELS
from tests.conftest import normalised
from tests.golden import seeds
from tests.regions.test_bank import write
from tests.sam import sam_config

GOLDEN = seeds.arrays('clip_dinoiser')
HEAD = {
    'classes': ['a', 'b', 'c', 'd'],
    'background': ['background'],
    'templates': ['{}'],
    'logit_scale': 100.0,
    'average': 'probabilities',
}


def patches():
    """Cosines ``(1, 48, 5)`` with the words, the background's first, and objectness."""
    cosines = torch.einsum('bdhw,kd->bhwk', F.normalize(GOLDEN['pooled'], dim=1), GOLDEN['text'])
    return cosines.flatten(1, 2), GOLDEN['objectness'].flatten(1)


@pytest.mark.parametrize(
    ('delta', 'released'),
    [
        (0.0, 'probabilities'),
        (0.99, 'probabilities_background'),
        (0.79, 'probabilities_background_079'),
    ],
)
def test_released_probabilities_and_labels(delta, released):
    head = SegTextHead(**HEAD, objectness_threshold=delta)
    maps = head.patch_scores(*patches()).transpose(1, 2).unflatten(2, (6, 8))
    torch.testing.assert_close(maps, GOLDEN[released], atol=2e-5, rtol=0)
    size = (96, 128)
    expected = F.interpolate(GOLDEN[released], size, mode='bilinear')[0].argmax(dim=0)
    labels = list(range(5))
    assert torch.equal(head.best_labels(maps[0], labels, size), expected)
    planes, present = head.probabilities(maps[0], labels, size)
    assert torch.equal(head.labels(planes, present), expected)


def test_background_threshold_of_averaged_probabilities():
    head = SegTextHead(**HEAD, background_threshold=0.8)
    maps = head.patch_scores(*patches()).transpose(1, 2).unflatten(2, (6, 8))[0]
    planes, present = head.probabilities(maps, [0, 1, 1, 2, 3], (50, 60))
    assert planes.shape[0] == 4
    labels = head.labels(planes, present)
    assert torch.equal(head.best_labels(maps, [0, 1, 1, 2, 3], (50, 60)), labels)
    assert (labels[planes.amax(dim=0) < 0.8] == 0).all()
    assert 0 < (planes.amax(dim=0) < 0.8).sum() < labels.numel()


def test_a_sigmoid_of_each_patch():
    head = SegTextHead(**HEAD)
    head.logit_bias, head.logit_scale = -2.0, 10.0
    cosines, objectness = patches()
    scores = head.patch_scores(cosines, objectness)
    torch.testing.assert_close(scores, torch.sigmoid(10 * cosines - 2))
    planes, _ = head.probabilities(scores.transpose(1, 2).unflatten(2, (6, 8))[0], range(5), (6, 8))
    torch.testing.assert_close(planes.flatten(1).T, scores[0])


def test_options_that_exclude_each_other():
    with pytest.raises(ValueError, match="average must be cosines or probabilities, not 'maps'"):
        SegTextHead(**{**HEAD, 'average': 'maps'})
    with pytest.raises(ValueError, match="set average='probabilities'"):
        SegTextHead(**{**HEAD, 'average': 'cosines'}, objectness_threshold=0.9)
    with pytest.raises(ValueError, match='needs words of a background'):
        SegTextHead(**{**HEAD, 'background': ()}, objectness_threshold=0.9)
    with pytest.raises(ValueError, match=r'objectness_threshold in \[0, 1\], not 2'):
        SegTextHead(**HEAD, objectness_threshold=2)


@pytest.fixture(scope='module')
def config(encoder_config, tmp_path_factory):
    """A segmentor with a pooling that has learnt objectness."""
    torch.manual_seed(5)
    state = {
        'obj_proj.weight': torch.randn(8, 128, 3, 3),
        'obj_proj.bias': torch.randn(8),
        'bkg_decoder.weight': torch.randn(1, 128, 1, 1),
        'bkg_decoder.bias': torch.zeros(1),
    }
    path = tmp_path_factory.mktemp('pooling') / 'last.pt'
    torch.save({'epoch': 1, 'model_state_dict': state}, path)
    pooling = {'type': 'mmtagclip.LearntPooling', 'checkpoint': str(path), 'clip': None}
    return {
        'type': 'mmtagclip.DirectSegmentor',
        'encoder': {**encoder_config, 'pooling': pooling},
        'head': {
            **HEAD,
            'type': 'mmtagclip.SegTextHead',
            'logit_scale': 5.0,
            'objectness_threshold': 0.99,
        },
        'windows': {'type': 'mmtagclip.SlidingWindows', 'size': 64, 'stride': 32},
    }


def test_probabilities_are_averaged_over_windows(config):
    segmentor = MODELS.build(config)
    image = normalised(segmentor.encoder, 64, 96, 3)[0]
    # Half of the patches show an object.
    logits = segmentor.encoder(image[None]).objectness
    segmentor.encoder.pooling.bkg_decoder.bias.data -= logits.median()
    total, count = torch.zeros(5, 64, 96), torch.zeros(64, 96)
    for left in (0, 32):
        features = segmentor.encoder(image[None, :, :, left : left + 64])
        planes = (5 * features.patches[0] @ segmentor.text.T).softmax(dim=-1)
        background = (planes.amax(dim=-1) < 0.99) & (features.objectness[0].sigmoid() <= 0.5)
        planes[background, 0] = 1
        assert 0 < background.sum() < 16
        planes = planes.T.reshape(1, 5, 4, 4)
        total[:, :, left : left + 64] += F.interpolate(planes, (64, 64), mode='bilinear')[0]
        count[:, left : left + 64] += 1
    sample = SegDataSample(metainfo={'ori_shape': (50, 80), 'img_path': 'a.jpg'})
    expected = F.interpolate((total / count)[None], (50, 80), mode='bilinear')[0].argmax(dim=0)
    (found,) = segmentor.predict([image], [sample])
    assert torch.equal(found.pred_sem_seg.data[0], expected)
    kept = segmentor.masks(segmentor.encode(image, size=(50, 80)))
    assert torch.equal(kept.pred_sem_seg.data[0], expected)


def test_what_a_segmentor_refuses(config, tmp_path):
    def build(**changes):
        MODELS.build({**deepcopy(config), **changes})

    plain = {key: value for key, value in config['encoder'].items() if key != 'pooling'}
    with pytest.raises(ValueError, match='needs the objectness that the pooling of the encoder'):
        build(encoder=plain)
    untaught = {**plain, 'pooling': {'type': 'mmtagclip.LearntPooling'}}
    with pytest.raises(ValueError, match='needs the objectness that the pooling of the encoder'):
        build(encoder=untaught)
    gatherer = {'type': 'mmtagclip.SAMGatherer', 'sam': sam_config(tmp_path)}
    with pytest.raises(ValueError, match='a gatherer takes the place of the pooling'):
        build(gatherer=gatherer)
    vectors = torch.eye(4)
    bank = str(write(tmp_path / 'bank.safetensors', vectors, vectors))
    with pytest.raises(ValueError, match="average='probabilities' leaves none"):
        build(cosine_processor={'type': 'mmtagclip.BankProcessor', 'bank': bank})
