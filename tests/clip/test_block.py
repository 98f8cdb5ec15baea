"""The mean attention map, made in parts of padded rows, beside the formula."""

import pytest
import torch

from mmtagclip.clip import block


@pytest.mark.parametrize('entries', [1, 100, 10_000])
@pytest.mark.parametrize('tokens', [2, 15, 16, 17, 50])
@pytest.mark.parametrize('lead', [0, 1, 2])
def test_any_number_of_tokens(monkeypatch, entries, tokens, lead):
    monkeypatch.setattr(block, 'MAP_ENTRIES', entries)
    generator = torch.Generator().manual_seed(tokens)
    q, k, v = torch.randn(3, 2, 3, tokens, 8, generator=generator)
    weights = (q.double() @ k.double().transpose(-1, -2) / 8**0.5).softmax(-1)
    found, y = block.attention_map(q, k, v, lead)
    wanted = weights.mean(1)[:, lead:, lead:].float()
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=0)
    torch.testing.assert_close(y, (weights @ v.double()).float(), atol=2e-6, rtol=0)
    alone, nothing = block.attention_map(q, k, None, lead)
    assert nothing is None
    assert torch.equal(alone, found)


def test_logits_far_below_zero_still_beat_the_padding():
    q, k = torch.full((1, 1, 3, 4), 100.0), torch.full((1, 1, 3, 4), -100.0)
    found, _ = block.attention_map(q, k, lead=0)
    torch.testing.assert_close(found, torch.full((1, 3, 3), 1 / 3))


def test_bfloat16():
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 1, 2, 19, 8, generator=generator)
    exact, y = block.attention_map(q, k, v)
    found, narrow = block.attention_map(q.bfloat16(), k.bfloat16(), v.bfloat16())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact, atol=0.01, rtol=0)
    torch.testing.assert_close(narrow.float(), y, atol=0.05, rtol=0)
