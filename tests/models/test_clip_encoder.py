"""How the features of a class's descriptions become one feature of the class."""

import pytest
import torch
from torch.nn.functional import normalize

from mmtagclip.clip import Described, Descriptions, cluster, enrich
from mmtagclip.models.clip_encoder import CLIPEncoder


@pytest.mark.parametrize('join', ['mean', 'unit', 'max', 'reweight', 'tse'])
def test_one_feature_for_each_class(join):
    generator = torch.Generator().manual_seed(0)
    rows, text = (normalize(torch.randn(n, 8, generator=generator), dim=-1) for n in (40, 2))
    words = (('x',) * 20, ('y',) * 20)
    said = Described(words, rows, torch.arange(2).repeat_interleave(20), join, 1.0, 1.0)
    means = torch.stack([rows[:20].mean(0), rows[20:].mean(0)])
    expected = {'mean': means, 'tse': enrich(text, cluster(rows, 11))}
    options = Descriptions({'a': ['x'], 'b': ['y']}, join=join, clusters=11)
    got = CLIPEncoder.join(said, text, options)
    torch.testing.assert_close(got, expected.get(join, normalize(means, dim=-1)))
