"""CAMs of all tags at once against one tag at a time."""

from copy import deepcopy

import pytest
import torch

from mmtagclip.clip import DenseEncoder, load_clip
from mmtagclip.models import SoftmaxGradCAM
from tests import twins


def case(encoder, seed, height, width, names=9):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(1, 3, 16 * height, 16 * width, generator=generator)
    text = torch.nn.functional.normalize(torch.randn(names, 64, generator=generator), dim=-1)
    return encoder(images), text


@pytest.mark.parametrize(
    ('seed', 'height', 'width', 'tags'),
    [(0, 1, 1, 1), (1, 1, 6, 2), (2, 4, 5, 5), (3, 7, 3, 9), (4, 6, 6, 3)],
)
def test_agrees_with_one_tag_at_a_time(encoder, seed, height, width, tags):
    features, text = case(encoder, seed, height, width)
    cams = SoftmaxGradCAM(max_tags=2)(features, text, tags, encoder)
    for tag in range(tags):
        raw = twins.cam(encoder.visual, encoder.logit_scale, features.last_input, text, tag)
        plain = twins.scale_cam(twins.scale_cam(raw))
        torch.testing.assert_close(cams[tag], plain, atol=1e-3, rtol=0)
        assert cams[tag].max() <= 1


def test_all_tags_take_one_forward_and_one_backward(encoder, monkeypatch):
    calls = []
    original = torch.autograd.grad
    monkeypatch.setattr(
        torch.autograd, 'grad', lambda *args, **kwargs: calls.append(1) or original(*args, **kwargs)
    )
    features, text = case(encoder, 0, 4, 4)
    SoftmaxGradCAM(max_tags=8)(features, text, 7, encoder)
    few = len(calls)
    SoftmaxGradCAM(max_tags=8)(features, text, 1, encoder)
    assert len(calls) == 2 * few


def test_a_cam_that_is_nowhere_positive_is_zero(encoder):
    features, text = case(encoder, 0, 3, 3, names=1)
    # A softmax over one name has no gradient.
    assert torch.equal(SoftmaxGradCAM()(features, text, 1, encoder), torch.zeros(1, 9))


def test_leaves_no_gradient_and_no_hook_behind(encoder):
    features, text = case(encoder, 0, 3, 3)
    with torch.no_grad():
        cams = SoftmaxGradCAM()(features, text, 2, encoder)
    assert not cams.requires_grad
    assert all(parameter.grad is None for parameter in encoder.parameters())
    assert not any(module._forward_hooks for module in encoder.modules())


def test_narrow_encoders_give_float32_cams(clip, encoder):
    narrow = DenseEncoder(load_clip(deepcopy(clip)), dtype='bfloat16')
    features, text = case(encoder, 1, 4, 4)
    got = SoftmaxGradCAM()(features, text, 3, narrow)
    assert got.dtype == torch.float32
    assert torch.isfinite(got).all()


def test_bad_arguments():
    with pytest.raises(ValueError, match='max_tags >= 1'):
        SoftmaxGradCAM(max_tags=0)
