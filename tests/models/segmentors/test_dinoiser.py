"""Direct segmentation with CLIP-DINOiser's pooling: labels, background, and what excludes it."""

import pytest
import torch
import torch.nn.functional as F

from mmtagclip.models import SegTextHead
from tests.golden import seeds

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
