"""The dense encoder against its plain twin, and what it refuses."""

import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmtagclip.clip import DenseEncoder, OrdinaryLastBlock, SelfOnlyLastBlock, load_clip
from mmtagclip.clip import block as block_module
from mmtagclip.clip import encoder as encoder_module
from mmtagclip.clip.steps import Steps
from tests import twins
from tests.conftest import NARROW

ALL = tuple(range(12))
SETS = ((8, 9, 10), (4, 5, 6, 7, 8, 9, 10, 11), ALL)


def tiny(patch=16, layers=3, image_size=64, **kwargs):
    """A small random CLIP with other sizes than the golden one."""
    torch.manual_seed(0)
    return open_clip.CLIP(
        embed_dim=32,
        **kwargs,
        vision_cfg={'image_size': image_size, 'layers': layers, 'width': 128, 'patch_size': patch},
        text_cfg={'context_length': 16, 'vocab_size': 49408, 'width': 64, 'heads': 1, 'layers': 1},
    )


def images(batch, height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 3, height, width, generator=generator)


def compare(encoder, batch, sets=SETS):
    features = encoder(batch, sets, votes=True)
    for i, image in enumerate(batch):
        patches, class_token, maps, grid = twins.dense(encoder.visual, image[None])
        assert features.grid == grid
        torch.testing.assert_close(features.patches[i], patches, atol=2e-5, rtol=0)
        torch.testing.assert_close(features.class_token[i], class_token, atol=2e-5, rtol=0)
        for layers in sets:
            torch.testing.assert_close(
                features.attention.mean(layers)[i], maps[list(layers)].mean(0), atol=1e-6, rtol=0
            )
        different = (features.attention.votes[i] != twins.votes(maps)).float().mean()
        assert different <= 0.001


@settings(deadline=None, max_examples=10)
@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9))
def test_agrees_with_torch_attention_on_any_grid(encoder, batch, height, width):
    compare(encoder, images(batch, 16 * height, 16 * width, seed=height * 10 + width))


@pytest.mark.parametrize('patch', [14, 16, 32])
def test_patch_sizes(patch):
    encoder = DenseEncoder(load_clip(tiny(patch, image_size=4 * patch)))
    compare(encoder, images(2, 3 * patch, 5 * patch), sets=((0, 1),))


@pytest.mark.parametrize('tokens', [1, 60, 2048])
def test_batch_equals_single_images(encoder, monkeypatch, tokens):
    """One image of 25 tokens at a time, two, all."""
    monkeypatch.setattr(encoder_module, 'CPU_TOKENS', tokens)
    batch = images(3, 64, 96)
    together = encoder(batch, SETS, votes=True)
    seen = torch.rand(3, 24, generator=torch.Generator().manual_seed(1)) > 0.5
    class_tokens = encoder.encode_class_token(batch, seen)
    for i in range(3):
        alone = encoder(batch[i : i + 1], SETS, votes=True)
        torch.testing.assert_close(together.patches[i], alone.patches[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(together.class_token[i], alone.class_token[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(together.last_input[i], alone.last_input[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(
            together.attention.mean(ALL)[i], alone.attention.mean(ALL)[0], atol=1e-6, rtol=0
        )
        own = encoder.encode_class_token(batch[i : i + 1], seen[i : i + 1])
        torch.testing.assert_close(class_tokens[i], own[0], atol=1e-5, rtol=0)
        assert (together.attention.votes[i] != alone.attention.votes[0]).float().mean() <= 0.001


@pytest.mark.parametrize('entries', [1, 60, 25 * 7, 25 * 24])
def test_maps_are_made_of_any_number_of_rows(encoder, monkeypatch, entries):
    """One row of 25 at a time, two, seven, all but one."""
    monkeypatch.setattr(block_module, 'MAP_ENTRIES', entries)
    compare(encoder, images(2, 64, 96))


def test_a_batch_of_no_images(encoder):
    features = encoder(torch.zeros(0, 3, 48, 80), [(8, 9, 10)], votes=True)
    assert features.patches.shape == (0, 15, 64)
    assert features.attention.votes.shape == (0, 15, 15)
    assert encoder.encode_class_token(torch.zeros(0, 3, 48, 80)).shape == (0, 64)


def test_native_grid_leaves_the_positions_alone(encoder):
    assert encoder.tower.positional_embedding((14, 14)) is encoder.visual.positional_embedding


@pytest.mark.parametrize('dtype', NARROW)
def test_narrow_dtypes_stay_close_and_return_float32(clip, encoder, dtype):
    from copy import deepcopy

    tolerance = {'bfloat16': 0.05, 'float16': 0.005}[dtype]
    narrow = DenseEncoder(load_clip(deepcopy(clip)), dtype=dtype)
    batch = images(2, 64, 80)
    near, exact = narrow(batch, SETS, votes=True), encoder(batch, SETS, votes=True)
    assert near.patches.dtype == near.attention.mean(ALL).dtype == torch.float32
    assert near.last_input.dtype == torch.float32
    assert narrow.dtype == getattr(torch, dtype)
    kinds = {name: weight.dtype for name, weight in narrow.visual.named_parameters()}
    assert {name for name, kind in kinds.items() if kind == torch.float32} == {
        name for name in kinds if 'ln_' in name or 'embedding' in name or name == 'proj'
    }
    cosine = (near.patches * exact.patches).sum(-1)
    assert cosine.min() > 1 - tolerance
    torch.testing.assert_close(
        near.attention.mean(ALL), exact.attention.mean(ALL), atol=tolerance, rtol=0
    )


@pytest.mark.parametrize('masked', [False, True])
def test_class_token_agrees_with_masked_torch_attention(encoder, masked):
    batch = images(3, 48, 80)
    seen = torch.rand(3, 15, generator=torch.Generator().manual_seed(1)) > 0.5
    got = encoder.encode_class_token(batch, seen if masked else None)
    for i in range(3):
        plain = twins.class_token(encoder.visual, batch[i : i + 1], seen[i] if masked else None)
        torch.testing.assert_close(got[i], plain, atol=2e-5, rtol=0)


def test_plain_class_token_is_open_clip_s_own(encoder):
    batch = images(2, 224, 224)
    own = encoder.clip.encode_image(batch, normalize=True)
    torch.testing.assert_close(encoder.encode_class_token(batch), own, atol=2e-5, rtol=0)
    features = encoder(batch)
    torch.testing.assert_close(encoder.ordinary_class_token(features), own, atol=2e-5, rtol=0)


def test_last_block_is_a_part(clip):
    batch = images(1, 64, 64)
    ordinary = DenseEncoder(load_clip(clip), OrdinaryLastBlock())
    value_only = DenseEncoder(load_clip(clip), SelfOnlyLastBlock())
    expected = ordinary.encode_class_token(batch)
    torch.testing.assert_close(ordinary(batch).class_token, expected, atol=2e-5, rtol=0)
    assert (value_only(batch).class_token - expected).abs().max() > 1e-3
    # The recorded maps do not depend on it.
    a, b = ordinary(batch, SETS, votes=True), value_only(batch, SETS, votes=True)
    assert torch.equal(a.attention.votes, b.attention.votes)


def test_maps_are_made_only_where_they_are_needed(encoder, monkeypatch):
    made = []
    original = block_module.attention_map
    steps = Steps(attention_map=lambda *args: made.append(1) or original(*args))
    monkeypatch.setattr(DenseEncoder, 'steps', steps)
    encoder(images(1, 32, 32))
    assert not made
    encoder(images(1, 32, 32), [(8, 9, 10)])
    assert len(made) == 3


def test_no_more_than_a_few_maps_live_at_once():
    """Peak memory of a deep model is that of a shallow one: maps are not kept layer by layer."""
    from torch.profiler import ProfilerActivity, profile

    def peak(layers):
        encoder = DenseEncoder(load_clip(tiny(layers=layers)))
        batch = images(1, 16 * 24, 16 * 24)
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as run:
            encoder(batch, [(0, 1)], votes=True)
        live = highest = 0
        for event in run.profiler.kineto_results.events():
            if event.name() == '[memory]':
                live += event.nbytes()
                highest = max(highest, live)
        return highest

    one_map = 4 * (24 * 24) ** 2
    assert peak(16) < peak(4) + one_map


def test_batches_of_a_wrong_shape_are_refused(encoder):
    for shape in [(1, 3, 40, 32), (1, 1, 32, 32), (3, 32, 32), (1, 3, 0, 32)]:
        with pytest.raises(ValueError, match='multiples of its patch size 16'):
            encoder(torch.zeros(shape))


def test_a_mask_of_another_number_of_images_is_refused(encoder):
    with pytest.raises(ValueError, match='seen is for 1 images, but there are 2'):
        encoder.encode_class_token(torch.zeros(2, 3, 32, 32), torch.ones(1, 4) > 0)


def test_unknown_layers_and_dtypes_are_refused(encoder, clip):
    with pytest.raises(ValueError, match='no attention map of layer 12'):
        encoder(images(1, 32, 32), [(8, 12)])
    with pytest.raises(KeyError, match='not requested'):
        encoder(images(1, 32, 32), [(8,)]).attention.mean((9,))
    with pytest.raises(ValueError, match="not 'float64'"):
        DenseEncoder(load_clip(clip), dtype='float64')


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_an_encoder_is_described_once(clip, monkeypatch, dtype):
    described = []
    for name in ('weights_digest', 'architecture_digest'):
        real = getattr(encoder_module, name)
        monkeypatch.setattr(
            encoder_module,
            name,
            lambda *a, real=real, name=name: described.append(name) or real(*a),
        )
    encoder = DenseEncoder(load_clip(clip), dtype=dtype)
    assert encoder.identity == encoder.identity
    assert sorted(described) == ['architecture_digest', 'weights_digest']


@pytest.mark.parametrize(
    'change',
    [
        lambda clip: clip.visual.transformer.resblocks[1].attn.__setattr__('num_heads', 4),
        lambda clip: clip.visual.ln_post.__setattr__('eps', 1e-3),
        lambda clip: clip.visual.__setattr__('image_size', (32, 128)),
        lambda clip: clip.visual.__setattr__('act', torch.tanh),
        lambda clip: clip.visual.__setattr__('act', torch.nn.Tanh),
        lambda clip: clip.visual.transformer.resblocks[0].mlp.__setattr__('gelu', torch.nn.ReLU()),
        lambda clip: clip.attn_mask.__setitem__((0, 1), 0.0),
    ],
    ids=['heads', 'eps', 'size', 'function', 'class', 'activation', 'mask'],
)
def test_what_an_encoder_is_told_by(change):
    one, other = tiny(), tiny()
    change(other)
    mine, its = (DenseEncoder(load_clip(clip)).identity for clip in (one, other))
    assert [key for key in mine if mine[key] != its[key]] == ['architecture']


def test_a_layer_named_twice_counts_once(encoder):
    attention = encoder(images(1, 32, 48), [(8, 8, 9)]).attention
    once = encoder(images(1, 32, 48), [(8, 9)]).attention
    assert torch.equal(attention.mean((9, 8, 8)), once.mean((8, 9)))


def test_statistics_of_one_image(encoder):
    features = encoder(images(2, 32, 48), [(0,)], votes=True)
    one = features.attention[1]
    assert torch.equal(one.votes[0], features.attention.votes[1])
    assert torch.equal(one.mean([0])[0], features.attention.mean([0])[1])


def test_the_normalisation_is_the_model_s_or_that_of_the_call(clip):
    loaded = load_clip(clip)
    own = DenseEncoder(loaded)
    assert (own.mean, own.std) == (tuple(loaded.mean), tuple(loaded.std))
    for key in ('mean', 'std'):
        other = DenseEncoder(loaded, **{key: (0.1, 0.2, 0.3)})
        expected = {'mean': own.mean, 'std': own.std, key: (0.1, 0.2, 0.3)}
        assert {name: getattr(other, name) for name in expected} == expected
