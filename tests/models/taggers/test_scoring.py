"""Softmax, sigmoid and cosine, in both heads and in CWR."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from mmtagclip.clip import DenseEncoder, Encoded, LoadedCLIP, Names, Vocabulary
from mmtagclip.models import CWR, DMAR, ClassTokenHead, TagCLIPHead
from mmtagclip.models.taggers.scoring import check_scoring, name_scores
from tests.golden.towers import recipe


@pytest.fixture(scope='module')
def siglip():
    """A tower that is pooled by attention, whose model has a bias."""
    clip = torch.nn.Module()
    clip.visual = recipe.build('siglip')
    clip.logit_scale, clip.logit_bias = torch.tensor(2.0), torch.tensor(-3.0)
    return DenseEncoder(LoadedCLIP(clip, None, 'small', (0.5,) * 3, (0.5,) * 3))


@pytest.fixture(scope='module')
def case(siglip):
    images = recipe.images(*siglip.native_size)
    text = F.normalize(torch.randn(4, 64, generator=torch.Generator().manual_seed(0)), dim=-1)
    names = Names(Vocabulary.load(['a', 'b', 'c']), Vocabulary.load(['d']), text)
    return Encoded(siglip(images, [(1,)], votes=True), images, siglip), names


def test_sigmoid_is_name_by_name(siglip, case):
    """Each score by itself: other names change nothing; DMAR and CWR run as with a softmax."""
    encoded, names = case
    scores = TagCLIPHead(scoring='sigmoid')(encoded, names).scores
    plain = (2.718281828**2 * encoded.features.patches @ names.text.T - 3).sigmoid()
    torch.testing.assert_close(scores, plain[..., :3].amax(dim=1))
    head = TagCLIPHead(dmar=DMAR(layers=(1,), votes=1), cwr=CWR(0.0), scoring='sigmoid')
    refined = head.dmar(plain, encoded.features.attention, encoded.features.grid)
    before = refined[..., :3].amax(dim=1)
    candidates = head.cwr.candidates(refined, before, encoded.features.grid)
    assert candidates
    crops, masks = head.cwr.crops(candidates, encoded.images, siglip)
    crop = siglip.encode_class_token(crops, masks)
    expected = before.clone()
    for row, one in zip(name_scores(crop, names.text, siglip, 'sigmoid'), candidates, strict=True):
        at = one.image, one.label
        expected[at] = 0.5 * before[at] + 0.5 * row[one.label]
    torch.testing.assert_close(head(encoded, names).scores, expected)


@pytest.mark.parametrize('scoring', ['softmax', 'sigmoid', 'cosine'])
def test_plain_scores(siglip, case, scoring):
    encoded, names = case
    cosines = siglip.encode_class_token(encoded.images) @ names.text.T
    logits = siglip.logit_scale * cosines
    plain = {'softmax': logits.softmax(-1), 'sigmoid': (logits - 3).sigmoid(), 'cosine': cosines}
    scores = ClassTokenHead(scoring=scoring)(encoded, names).scores
    torch.testing.assert_close(scores, plain[scoring][:, :3])
    # Each class ranks images alike by sigmoid and by cosine.
    if scoring == 'sigmoid':
        assert torch.equal(scores.argsort(dim=0), cosines[:, :3].argsort(dim=0))


def test_a_sigmoid_needs_a_bias(encoder):
    assert encoder.logit_bias is None
    with pytest.raises(ValueError, match=r"no logit_bias: use scoring='softmax'"):
        check_scoring('sigmoid', encoder)
    with pytest.raises(ValueError, match=r'no logit_bias'):
        name_scores(torch.ones(1, 64), torch.ones(1, 64), encoder, 'sigmoid')
    check_scoring('softmax', SimpleNamespace(logit_bias=None))


def test_unknown_scorings():
    with pytest.raises(ValueError, match="scoring must be 'softmax' or 'sigmoid', not 'cosine'"):
        TagCLIPHead(scoring='cosine')
    with pytest.raises(ValueError, match="one of softmax, sigmoid, cosine, not 'tanh'"):
        ClassTokenHead(scoring='tanh')
