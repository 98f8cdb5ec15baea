"""The head of direct segmentation at the exact limits of its rules."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmtagclip.models import SegTextHead


def head(**options):
    """Two classes, one of which has two words, behind a background of two words."""
    classes = options.pop('classes', ['dog', ('cat', 'kitten')])
    return SegTextHead(classes, background=['sky', 'grass'], templates=['{}'], **options)


def won(background, dog, cat):
    """Planes ``(3, 1, W)`` in which each label wins as many pixels."""
    winner = torch.tensor([0] * background + [1] * dog + [2] * cat)
    return torch.nn.functional.one_hot(winner, 3).T[:, None].float() * 0.5 + 0.25


@pytest.mark.parametrize(
    ('dog', 'cat', 'stays'),
    [(4, 12, [True, False, True]), (5, 11, [True, True, True]), (16, 0, [True, True, False])],
)
def test_a_class_at_the_area_threshold_is_left_out(dog, cat, stays):
    """It has to win more than a quarter of what classes win; the background does not count."""
    for background in (0, 1, 40):
        planes = won(background, dog, cat)
        kept = head(area_threshold=0.25).rule_out(planes)
        for plane, before, one in zip(kept, planes, stays, strict=True):
            assert torch.equal(plane, before if one else torch.zeros_like(before))


def test_without_an_area_threshold_nothing_is_left_out():
    planes = won(3, 1, 0)
    assert torch.equal(head().rule_out(planes), planes)


def test_where_classes_win_nothing_only_the_background_stays():
    kept = head(area_threshold=0.25).rule_out(won(4, 0, 0))
    assert kept.flatten(1).amax(dim=1).tolist() == [0.75, 0, 0]


def test_a_pixel_at_the_background_threshold_keeps_its_class():
    planes = torch.tensor([[0.25, 0.0], [0.5, 0.0], [0.25, 0.49]])[:, None]
    assert head(background_threshold=0.5).labels(planes, [0, 1, 2]).tolist() == [[1, 0]]
    assert head().labels(planes, [0, 1, 2]).tolist() == [[1, 2]]


def test_of_equal_labels_the_first_wins():
    planes = torch.tensor([[0.5, 0.25], [0.5, 0.5], [0.5, 0.5]])[:, None]
    assert head().labels(planes, [0, 1, 2]).tolist() == [[0, 1]]


@pytest.mark.parametrize('threshold', [0.0, 0.1])
def test_of_equal_words_the_first_wins_without_planes_too(threshold):
    cosines = torch.tensor([[0.1, 0.1], [0.3, 0.1], [0.3, 0.1], [0.2, 0.2], [0.2, 0.2]])[:, None]
    labels = head(background_threshold=threshold).best_labels(cosines, [0, 1, 1, 2, 3], (1, 2))
    assert labels.tolist() == [[1, 2]]


def test_planes_are_the_best_word_of_each_label():
    cosines = torch.tensor([0.1, 0.3, 0.0, 0.2, 0.4])[:, None, None]
    planes, labels = head(logit_scale=2.0).probabilities(cosines, head().own.labels, (1, 1))
    words = (2 * cosines.flatten()).softmax(dim=0)
    assert labels == [0, 1, 2]
    torch.testing.assert_close(planes.flatten(), words[[1, 2, 4]])
    planes, labels = head(logit_scale=2.0).probabilities(cosines[[1, 4]], [0, 2], (1, 1))
    assert labels == [0, 2]
    expected = (2 * cosines[[1, 4]].flatten()).softmax(dim=0)
    torch.testing.assert_close(planes.flatten(), expected)


def plain(cosines, labels, size, scale):
    """Planes of the labels, with the softmax of all words at once."""
    words = (scale * F.interpolate(cosines[None], size=size, mode='bilinear')[0]).softmax(dim=0)
    present = sorted(set(labels))
    rows = torch.tensor(labels)
    return torch.stack([words[rows == label].amax(dim=0) for label in present]), present


@pytest.mark.parametrize('scale', [40.0, 200.0])
@pytest.mark.parametrize(
    'options', [{}, {'area': 0.2}, {'level': 0.3}, {'area': 0.2, 'level': 0.6}]
)
@pytest.mark.parametrize('count', [1, 3, 300])
def test_labels_and_planes_equal_those_of_the_softmax_of_all_words(count, options, scale):
    """Over enlarged, shrunk and equal sizes; 300 labels do not fit into a byte."""
    area, level = options.get('area', 0), options.get('level', 0)
    maker = torch.Generator().manual_seed(count)
    one = head(classes=[f'class {i}' for i in range(count)], area_threshold=area, logit_scale=scale)
    labels = [0, 0, *range(1, count + 1), count]
    labels.sort()
    for size in ((7, 9), (40, 33), (3, 5), (1, 1), (90, 120)):
        cosines = torch.rand(len(labels), 7, 9, generator=maker) * 0.1 + 0.2
        cosines[labels.index(count)] += 0.03  # some classes win more than others
        cosines[1] = cosines[0]  # a tie
        before = cosines.clone()
        planes, present = one.probabilities(cosines, labels, size)
        expected, _ = plain(cosines, labels, size, scale)
        torch.testing.assert_close(planes, expected, rtol=2e-5, atol=1e-9)
        assert present == list(range(count + 1))
        found = one.best_labels(cosines, labels, size, level)
        assert torch.equal(found, one.labels(one.rule_out(expected), present, level))
        assert found.dtype == torch.int64
        assert torch.equal(cosines, before)


def test_labels_hold_three_planes_at_most(tmp_path):
    """12 bytes per pixel, whatever the number of words; as PyTorch counts them."""
    size = (500, 700)
    for options in ({}, {'background_threshold': 0.5}, {'area_threshold': 0.1}):
        one = head(classes=[f'class {i}' for i in range(40)], **options)
        cosines = torch.rand(41, 20, 20)
        with torch.profiler.profile(profile_memory=True) as profile:
            one.best_labels(cosines, list(range(41)), size)
        profile.export_chrome_trace(str(tmp_path / 'trace.json'))
        events = json.loads((tmp_path / 'trace.json').read_bytes())['traceEvents']
        changes = sorted(
            (event['ts'], event['args']['Bytes']) for event in events if event['name'] == '[memory]'
        )
        held = np.cumsum([change for _, change in changes])
        assert 8 * 500 * 700 <= max(held) <= 12.1 * 500 * 700


def test_words_of_tags():
    words = head().own
    assert words.rows(None) == [0, 1, 2, 3, 4]
    assert words.rows([1]) == [0, 1, 3, 4]
    assert words.rows([]) == [0, 1]
    assert SegTextHead(['dog', 'cat'], templates=['{}']).own.rows([0]) == [0]


@pytest.mark.parametrize('key', ['background_threshold', 'area_threshold', 'description_weight'])
def test_the_ends_of_a_range_belong_to_it(key):
    for value in (0, 1):
        assert getattr(head(**{key: value}), key) == value
    for value in (-0.01, 1.01):
        with pytest.raises(ValueError, match=rf'{key} in \[0, 1\], not {value}'):
            head(**{key: value})


class Sigmoid:
    """What the head takes of an encoder."""

    name, logit_scale, logit_bias = 'SigLIP', 20.0, -4.0
    clip = property(lambda self: self)

    def encode_names(self, words, templates):
        return torch.eye(len(words))

    def patch_text(self, text):
        return text


@pytest.mark.parametrize('threshold', [0.0, 0.2, 0.9, 1.0])
def test_sigmoids_word_by_word(threshold):
    one = head(scoring='sigmoid', background_threshold=threshold)
    one.text(Sigmoid())
    cosines = torch.rand(5, 3, 4, generator=torch.Generator().manual_seed(0)) - 0.3
    labels = one.own.labels
    planes, present = one.probabilities(cosines, labels, (3, 4))
    words = (20 * cosines - 4).sigmoid()
    expected = torch.stack([words[:2].amax(0), words[2], words[3:].amax(0)])
    torch.testing.assert_close(planes, expected)
    assert present == [0, 1, 2]
    assert (planes.sum(0) - 1).abs().max() > 0.5  # they do not add up to 1
    found = one.labels(planes, present)
    assert torch.equal(one.best_labels(cosines, labels, (3, 4)), found)
    assert found.unique().tolist() == ([0] if threshold == 1 else [0, 1, 2])


def test_a_sigmoid_that_the_model_was_not_trained_with_is_refused():
    encoder = Sigmoid()
    encoder.logit_bias = None
    with pytest.raises(ValueError, match='SigLIP was not trained with a sigmoid'):
        head(scoring='sigmoid').text(encoder)
    with pytest.raises(ValueError, match="scoring must be 'softmax' or 'sigmoid', not 'cosine'"):
        head(scoring='cosine')
