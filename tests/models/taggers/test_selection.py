"""The rule that turns scores into tags."""

import pytest
import torch

from mmtagclip.models import ClassTokenHead, PIAAHead, Tag, TagCLIPHead, TagRule, relative_threshold

SCORES = torch.tensor([0.6, 0.1, 0.9, 0.6])


@pytest.mark.parametrize(
    ('scores', 'k', 'tags'),
    [
        ([0.0, 0.5, 1.0], 0.5, [2]),
        ([0.0, 0.51, 1.0], 0.5, [1, 2]),
        ([0.0, 0.2, 1.0], 0.1, [1, 2]),
        ([0.3, 0.3, 0.3], 0.5, [0]),
        ([0.7], 0.5, [0]),
        ([0.25, 0.75, 0.5], 0.0, [1, 2]),  # the lowest is never above the limit
        ([0.25, 0.75, 0.75], 1.0, [1]),  # nothing is: the first of the highest alone
    ],
)
def test_relative_threshold(scores, k, tags):
    assert relative_threshold(torch.tensor(scores), k).nonzero().flatten().tolist() == tags
    assert TagRule(k).labels(torch.tensor(scores)).tolist() == tags


@pytest.mark.parametrize(
    ('rule', 'tags'),
    [
        ({}, [0, 2, 3]),
        ({'min_score': 0.6}, [0, 2, 3]),  # a score at the floor stays
        ({'min_score': 0.61}, [2]),
        ({'min_score': 0.95}, []),
        ({'top': 1}, [2]),
        ({'top': 2}, [0, 2]),  # of equal scores the first class
        ({'top': 3}, [0, 2, 3]),
        ({'top': 9}, [0, 2, 3]),
        ({'top': 2, 'min_score': 0.7}, [2]),
        ({'threshold': 0.7, 'top': 2}, [2]),
    ],
)
def test_floor_and_number(rule, tags):
    rule = TagRule(**rule)
    assert rule.labels(SCORES).tolist() == tags
    assert rule.tags(SCORES) == [Tag(label, SCORES[label].item()) for label in tags]
    batch = torch.stack([SCORES, SCORES.flip(0)])
    assert torch.equal(rule.mask(batch), torch.stack([rule.mask(one) for one in batch]))


def test_what_is_none_stays():
    rule = TagRule(0.3, 0.1, 5)
    assert rule.but() == rule.but(threshold=None, min_score=None, top=None) == rule
    assert rule.but(min_score=0.0, top=1) == TagRule(0.3, 0.0, 1)


@pytest.mark.parametrize(
    ('options', 'error', 'message'),
    [
        ({'threshold': 1.1}, ValueError, r'threshold must be in \[0, 1\], not 1.1'),
        ({'min_score': -0.1}, ValueError, r'min_score must be in \[0, 1\], not -0.1'),
        ({'min_score': float('nan')}, ValueError, r'min_score must be in \[0, 1\], not nan'),
        ({'min_score': '0.5'}, TypeError, "min_score must be a number in .*, not '0.5'"),
        ({'threshold': True}, TypeError, 'threshold must be a number'),
        ({'top': 0}, ValueError, 'top must be at least 1, not 0'),
        ({'top': 2.0}, TypeError, 'top must be a whole number, not 2.0'),
    ],
)
@pytest.mark.parametrize('make', [TagRule, TagCLIPHead, ClassTokenHead])
def test_bad_values(make, options, error, message):
    with pytest.raises(error, match=message):
        make(**options)


@pytest.mark.parametrize('head', [TagCLIPHead, ClassTokenHead, PIAAHead])
def test_a_head_s_rule(head):
    scorer = {'scorer': torch.nn.Identity()} if head is PIAAHead else {}
    assert head(**scorer).rule == TagRule(0.5, 0.0, None)
    rule = {'threshold': 0.2, 'min_score': 0.1, 'top': 3}
    assert head(**scorer, **rule).rule == TagRule(**rule)
