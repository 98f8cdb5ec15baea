"""Modules built without random weights are the same once their weights are loaded."""

import pytest
import timm
import torch
from timm.layers import trunc_normal_tf_
from torch import nn
from torch.nn import init

from mmtagclip.clip.building import Unfilled
from tests.golden.towers import published, recipe

RANDOM_INITS = [
    getattr(init, name)
    for name in dir(init)
    if name.endswith(('normal_', 'uniform_', 'orthogonal_')) and not name.startswith('_')
]


@pytest.mark.parametrize('kind', [*recipe.KINDS, *published.KINDS])
def test_towers_are_the_same(kind):
    build = published.build_clip if kind in published.KINDS else recipe.build
    usual = build(kind)
    with Unfilled():
        ours = build(kind)
    for mine, theirs in (
        (ours.state_dict(), usual.state_dict()),
        (dict(ours.named_buffers()), dict(usual.named_buffers())),  # not all of them are saved
        (dict(ours.named_parameters()), dict(usual.named_parameters())),
    ):
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[key], theirs[key]) for key in mine)


@pytest.mark.parametrize('fill', [*RANDOM_INITS, trunc_normal_tf_, timm.layers.lecun_normal_])
def test_nothing_is_drawn(fill):
    weights = torch.full((4, 4), 7.0)
    before = torch.get_rng_state()
    with Unfilled():
        fill(weights)
    assert torch.equal(torch.get_rng_state(), before)
    fill(weights)
    assert not torch.equal(torch.get_rng_state(), before)


def test_all_else_is_done():
    with Unfilled():
        norm = nn.LayerNorm(5)
        weights = init.constant_(torch.empty(3), 2)
        drawn = torch.randn(3)
    assert norm.weight.tolist() == [1] * 5
    assert weights.tolist() == [2] * 3
    assert drawn.std() > 0
    filled = init.normal_(torch.zeros(3))  # as always outside
    assert filled.std() > 0
