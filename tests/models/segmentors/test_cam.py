"""CAMs of all tags at once against one tag at a time."""

from copy import deepcopy

import pytest
import torch

from mmtagclip.clip import (
    DenseEncoder,
    LastBlock,
    OrdinaryLastBlock,
    SVCLastBlock,
    load_clip,
)
from mmtagclip.clip.block import attend
from mmtagclip.models import SoftmaxGradCAM, SurgeryCAM
from mmtagclip.models.maps import scale_cam
from tests import twins
from tests.clip.towers.test_golden import encoder_of


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


@pytest.mark.parametrize('kind', ['vit_cls', 'vit_reg', 'eva01', 'eva02', 'eva02_e', 'mci_b'])
def test_towers_of_other_libraries(kind):
    """By autograd from the norm's output on, for towers with a class token, rotary ones too."""
    encoder = encoder_of(kind)
    encoder.clip.logit_scale = torch.tensor(2.0)
    tower = encoder.tower
    images = torch.randn(1, 3, *encoder.native_size, generator=torch.Generator().manual_seed(3))
    text = torch.nn.functional.normalize(
        torch.randn(5, encoder.dim, generator=torch.Generator().manual_seed(4)), dim=-1
    )
    features = encoder(images)
    got = SoftmaxGradCAM(max_tags=2)(features, text, 3, encoder)
    block, x = tower.blocks(features.grid)[-1], features.last_input
    for tag in range(3):
        with torch.enable_grad():
            activation = block.norm(x).detach().requires_grad_()
            tokens = x + block.attention_output(attend(*block.project_qkv(activation)))
            tokens = tower.norm(tokens + block.feed_forward(tokens))
            mean = tower.patches(tokens[:, tower.lead :].mean(dim=1, keepdim=True), features.grid)
            cosines = torch.nn.functional.normalize(mean[0, 0], dim=-1) @ text.T
            probability = (encoder.logit_scale * cosines).softmax(dim=-1)[tag]
        (gradient,) = torch.autograd.grad(probability, activation)
        weight = gradient[0, tower.lead :].mean(dim=0)
        raw = (activation.detach()[0, tower.lead :] @ weight).relu()[None]
        plain = scale_cam(scale_cam(raw))[0]
        torch.testing.assert_close(got[tag], plain, atol=1e-3, rtol=0)


def plain_surgery(tokens, text):
    """Feature surgery as it is written down, element by element of the features."""
    p = (2 * tokens[0] @ text.T).softmax(-1)
    elements = tokens[:, None] * text[None] * (p / p.mean())[None, :, None]
    maps = (elements - elements.mean(dim=1, keepdim=True)).sum(-1)
    maps = maps - maps.amin(0)
    return (maps / maps.amax(0)).T[:, 1:]


def surgery(encoder, text, tags, images, **options):
    cam = SurgeryCAM(**options)
    cam.set_encoder(encoder)
    return cam(encoder(images, inputs=cam.block_inputs), text, tags, encoder)


def test_surgery_on_the_features_that_are_there(encoder, monkeypatch):
    features, text = case(encoder, 0, 4, 5)
    for part in ('blocks', 'read', 'norm'):  # no block runs again
        monkeypatch.setattr(type(encoder.tower), part, None)
    got = SurgeryCAM()(features, text, 3, encoder)
    tokens = torch.cat([features.class_token, features.patches[0]])
    torch.testing.assert_close(got, plain_surgery(tokens, text)[:3], atol=1e-5, rtol=0)
    across = tokens / tokens.norm(dim=0)
    got = SurgeryCAM(across_tokens=True)(features, text, 3, encoder)
    torch.testing.assert_close(got, plain_surgery(across, text)[:3], atol=1e-5, rtol=0)


def test_surgery_on_another_last_block(clip, encoder):
    """As on an encoder that has it, whose input it gets."""
    images = torch.randn(1, 3, 64, 80, generator=torch.Generator().manual_seed(1))
    _, text = case(encoder, 1, 1, 1)
    for policy in (SVCLastBlock, OrdinaryLastBlock):
        other = DenseEncoder(load_clip(clip), policy())
        expected = surgery(other, text, 3, images)
        got = surgery(encoder, text, 3, images, last_block=policy())
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


def test_surgery_in_a_narrow_encoder(clip, encoder):
    narrow = DenseEncoder(load_clip(deepcopy(clip)), dtype='bfloat16')
    images = torch.randn(1, 3, 64, 80, generator=torch.Generator().manual_seed(1))
    _, text = case(encoder, 1, 1, 1)
    got = surgery(narrow, text, 3, images, last_block=SVCLastBlock())
    exact = surgery(encoder, text, 3, images, last_block=SVCLastBlock())
    assert got.dtype == torch.float32
    assert (got - exact).abs().mean() < 0.02


@pytest.mark.parametrize('kind', ['vit_gap', 'siglip', 'pe', 'vit_reg'])
def test_surgery_on_towers_that_pool_in_other_ways(kind):
    """The global feature of the ordinary block has the class token's place."""
    encoder = encoder_of(kind)
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(1, 3, *encoder.native_size, generator=generator)
    text = torch.nn.functional.normalize(torch.randn(5, encoder.dim, generator=generator), dim=-1)
    got = surgery(encoder, text, 3, images, last_block=SVCLastBlock(depth=2))
    svc = encoder_of(kind, SVCLastBlock(depth=2))(images)
    whole = encoder.ordinary_class_token(encoder(images))
    expected = plain_surgery(torch.cat([whole, svc.patches[0]]), text)[:3]
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)


def test_surgery_refuses_what_it_cannot_run(encoder):
    class Look(LastBlock):
        needs_pixels = True

    with pytest.raises(ValueError, match='Look needs more than their inputs: set it as the'):
        SurgeryCAM(Look())
    with pytest.raises(ValueError, match='the last 13 blocks, but the model has only 12'):
        SurgeryCAM(SVCLastBlock(depth=13)).set_encoder(encoder)
    shallow = encoder_of('vit_cls')
    with pytest.raises(ValueError, match=f'the last 5 blocks, .* only {shallow.num_blocks}: set'):
        SurgeryCAM(SVCLastBlock()).set_encoder(shallow)
    with pytest.raises(ValueError, match='those of dinotxt differ'):
        SurgeryCAM().set_encoder(encoder_of('dinotxt'))
