"""The tree of prompts' beginnings, and its features beside those of whole prompts."""

import numpy as np
import open_clip
import pytest
import torch
from torch.nn.functional import normalize

from mmtagclip.clip import encode_text, prefixes
from mmtagclip.clip.prefixes import PrefixTree, encode_prefixes, prefix_blocks


def random_prompts(seed, count=40, longest=21):
    """Prompts of few different tokens, so that many share a beginning, and their lengths."""
    random = np.random.RandomState(seed)
    prompts = random.randint(1, 3, (count, longest))
    return prompts, random.randint(1, longest + 1, count)


@pytest.mark.parametrize('seed', range(5))
def test_each_beginning_is_one_node(seed):
    prompts, lengths = random_prompts(seed)
    tree = PrefixTree.of(prompts, lengths)
    beginnings = {
        tuple(row[: end + 1]) for row, n in zip(prompts, lengths, strict=True) for end in range(n)
    }
    found = [None] * len(tree.tokens)
    nodes = iter(range(len(found)))
    for start, stage in zip(range(0, 99, prefixes.STEP), tree.stages, strict=False):
        for place in stage.places:
            row, column = divmod(place, prefixes.STEP)
            path = stage.paths[row, : start + column + 1]
            node = next(nodes)
            assert path[-1] == node
            assert tree.depths[node] == start + column
            found[node] = tuple(tree.tokens[path])
    assert not any(nodes)
    assert len(found) == len(beginnings)
    assert set(found) == beginnings
    for row, length, end in zip(prompts, lengths, tree.ends, strict=True):
        assert found[end] == tuple(row[:length])


@pytest.mark.parametrize('rows, paths', [(256, 512), (5, 3)])
def test_features_are_those_of_whole_prompts(encoder, monkeypatch, rows, paths):
    monkeypatch.setattr(prefixes, 'ROWS', rows)
    monkeypatch.setattr(prefixes, 'PATHS', paths)
    clip = encoder.clip
    texts = ['a dog', 'a dog and a cat', 'a', 'the cat ' * 12, 'a photo of a dog.']
    tokens = encoder.tokenizer(texts)
    lengths = tokens.argmax(dim=-1) + 1
    with torch.no_grad():
        last = encode_prefixes(clip, prefix_blocks(clip), tokens, lengths)
        found = normalize(clip.ln_final(last) @ clip.text_projection, dim=-1)
        whole = normalize(encode_text(clip, tokens), dim=-1)
    torch.testing.assert_close(found, whole, atol=1e-6, rtol=0)


def test_every_product_has_one_shape(encoder, monkeypatch):
    """So that the bits of a row depend on no other row."""
    shapes = set()
    linear = torch.nn.functional.linear

    def record(x, *args):
        shapes.add(x.shape[:-1].numel())
        return linear(x, *args)

    monkeypatch.setattr(torch.nn.functional, 'linear', record)
    clip = encoder.clip
    tokens = encoder.tokenizer([f'{number} photos' for number in range(400)])
    encode_prefixes(clip, prefix_blocks(clip), tokens, tokens.argmax(dim=-1) + 1)
    assert shapes == {prefixes.ROWS}


def test_other_blocks_are_not_run():
    text = open_clip.transformer.TextTransformer(width=32, heads=2, layers=1)
    assert len(prefix_blocks(text)) == 1
    text.transformer.resblocks[0] = torch.nn.Identity()
    assert prefix_blocks(text) is None
