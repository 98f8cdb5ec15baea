"""Compiled blocks: the same results for all image sizes, from a few compilations."""

import logging
import pickle
from copy import deepcopy

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from mmtagclip.clip import DenseEncoder, load_clip
from mmtagclip.clip.block import attention_map
from mmtagclip.clip.steps import Steps, whole_attention_map
from tests.clip.test_encoder import images, tiny
from tests.clip.towers.test_golden import encoder_of
from tests.processes import slow

LAYERS = [(0, 1)]


@pytest.fixture(autouse=True)
def nothing_compiled(monkeypatch):
    """Nor does pytest record all that the compiler notes."""
    monkeypatch.setattr(logging.getLogger('torch.__trace'), 'disabled', True)
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def agree(compiled, plain, batch, atol=1e-5):
    maps = bool(plain.num_blocks)
    layers = LAYERS if maps else ()
    one, other = (encoder(batch, layers, votes=maps) for encoder in (compiled, plain))
    for key in ('patches', 'class_token', 'last_input'):
        torch.testing.assert_close(getattr(one, key), getattr(other, key), atol=atol, rtol=1e-5)
    if maps:
        means = (each.attention.mean(LAYERS[0]) for each in (one, other))
        torch.testing.assert_close(*means, atol=1e-6, rtol=0)
        assert (one.attention.votes != other.attention.votes).float().mean() <= 0.001
    seen = torch.arange(one.input_grid[0] * one.input_grid[1]).expand(len(batch), -1) % 3 > 0
    for mask in (None, seen):
        torch.testing.assert_close(
            compiled.encode_class_token(batch, mask),
            plain.encode_class_token(batch, mask),
            atol=atol,
            rtol=0,
        )


def test_all_blocks_and_grids_share_what_was_compiled():
    clip = tiny(layers=3)
    plain = DenseEncoder(load_clip(clip))
    counter = CompileCounterWithBackend('eager')
    compiled = DenseEncoder(load_clip(clip), compiled={'backend': counter})
    agree(compiled, plain, images(5, 48, 64))  # a size that the model does not have, too
    count = counter.frame_count
    # Three steps; the last block's map is without values, and CWR's step with and without a mask.
    assert 5 <= count <= 7
    for batch, height, width in ((2, 64, 48), (4, 96, 32)):
        agree(compiled, plain, images(batch, height, width))
    assert counter.frame_count == count
    agree(compiled, plain, images(1, 16, 48))
    assert counter.frame_count <= 2 * count
    assert deepcopy(compiled)(images(2, 32, 32)).patches.shape == (2, 4, 32)


@pytest.mark.parametrize('kind', ['eva02', 'convnext'])
def test_other_towers(kind):
    compiled = encoder_of(kind, compiled={'backend': 'eager'})
    side = compiled.tower.stride
    for grid in ((2, 3), (4, 2)):
        agree(compiled, encoder_of(kind), images(2, grid[0] * side, grid[1] * side))


def test_bfloat16():
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, 7, 8).bfloat16() for _ in range(3))
    one, other = whole_attention_map(q, k, v, 1), attention_map(q, k, v, 1)
    torch.testing.assert_close(one[0], other[0], atol=1e-6, rtol=0)
    torch.testing.assert_close(one[1], other[1], atol=0.01, rtol=0)
    assert one[1].dtype == torch.bfloat16
    assert whole_attention_map(q, k, None, 1)[1] is None


def test_a_tracer_sees_the_plain_steps():
    encoder = DenseEncoder(load_clip(tiny()), compiled=True)
    seen = [encoder.steps]

    def look(x):
        seen.append(encoder.steps)
        return x + 1

    torch.jit.trace(look, torch.zeros(1), check_trace=False)
    assert seen[0] != Steps()
    assert seen[1] == Steps()


def test_anything_but_options_is_refused():
    with pytest.raises(ValueError, match=r"compiled must be True, False or options .*, not 'yes'"):
        DenseEncoder(load_clip(tiny()), compiled='yes')


@pytest.mark.parametrize('mode', ['max-autotune', 'reduce-overhead'])
def test_modes_with_graphs_are_refused(mode):
    with pytest.raises(ValueError, match=f"CUDA graphs of mode '{mode}' do not allow: use max-"):
        DenseEncoder(load_clip(tiny()), compiled={'mode': mode})


def test_it_can_be_pickled():
    encoder = DenseEncoder(load_clip(tiny()), compiled=True)
    assert encoder.steps is encoder.steps
    again = pickle.loads(pickle.dumps(encoder))
    assert again.compiled is True
    assert again.steps != Steps()


@slow
def test_by_the_default_compiler():
    clip = tiny()
    compiled, plain = (DenseEncoder(load_clip(clip), compiled=one) for one in (True, False))
    agree(compiled, plain, images(2, 48, 64))
    agree(compiled, plain, images(3, 64, 32))
