"""The head: each step removable, scores and maps, tags."""

import pytest
import torch

from mmtagclip.clip import AttentionStatistics, DenseFeatures, Encoded, Names, Vocabulary
from mmtagclip.models import (
    CWR,
    DMAR,
    ClassTokenHead,
    TagCLIPHead,
    coarse_scores,
)
from tests import twins
from tests.conftest import normalised


@pytest.fixture(scope='module')
def text(encoder):
    return torch.nn.functional.normalize(
        torch.randn(7, 64, generator=torch.Generator().manual_seed(0)), dim=-1
    )


def run(head, encoder, images, text, foreground=5):
    features = encoder(images, head.attention_layers, head.needs_votes)
    return head(Encoded(features, images, encoder), named(text, foreground))


def named(text, foreground):
    """Names that have these text features, so many of them to be found."""
    names = Vocabulary.load([f'name {row}' for row in range(len(text))]).phrases
    return Names(Vocabulary(names[:foreground]), Vocabulary(names[foreground:]), text)


def test_coarse_alone_is_the_maximum_of_the_softmax(encoder, text):
    images = normalised(encoder, 64, 80, 1)
    result = run(TagCLIPHead(), encoder, images, text)
    patches, _, _, grid = twins.dense(encoder.visual, images)
    maps = (encoder.logit_scale * patches @ text.T).softmax(-1)[:, :5]
    torch.testing.assert_close(result.scores[0], maps.amax(0), atol=2e-5, rtol=0)
    torch.testing.assert_close(result.score_maps[0], maps.T.reshape(5, *grid), atol=2e-5, rtol=0)


def test_dmar_and_cwr_are_each_removable(encoder, text):
    images = normalised(encoder, 96, 80, 5)
    dmar, cwr = DMAR((8, 9, 10)), CWR(0.1)
    patches, _, maps, grid = twins.dense(encoder.visual, images)
    coarse = (encoder.logit_scale * patches @ text.T).softmax(-1)
    refined = twins.dmar(coarse, maps, (8, 9, 10), 4, grid)

    def again(scores):
        return twins.cwr(
            encoder.visual,
            encoder.logit_scale,
            text,
            scores,
            scores[:, :5].amax(0),
            grid,
            images,
            0.1,
            False,
        )

    close = {'atol': 2e-5, 'rtol': 0}
    torch.testing.assert_close(
        run(TagCLIPHead(dmar), encoder, images, text).scores[0], refined[:, :5].amax(0), **close
    )
    torch.testing.assert_close(
        run(TagCLIPHead(None, cwr), encoder, images, text).scores[0], again(coarse), **close
    )
    torch.testing.assert_close(
        run(TagCLIPHead(dmar, cwr), encoder, images, text).scores[0], again(refined), **close
    )


def test_head_asks_only_for_the_maps_that_it_needs():
    assert TagCLIPHead().attention_layers == ()
    assert not TagCLIPHead(cwr=CWR()).needs_votes
    head = TagCLIPHead({'type': 'mmtagclip.DMAR', 'layers': (3, 4)})
    assert head.attention_layers == ((3, 4),)
    assert head.needs_votes


def test_class_token_head_is_plain_clip(encoder, text):
    images = normalised(encoder, 224, 224, 1)
    own = encoder.clip.encode_image(images, normalize=True)
    result = run(ClassTokenHead(), encoder, images, text)
    expected = (encoder.logit_scale * own @ text.T).softmax(-1)[:, :5]
    torch.testing.assert_close(result.scores, expected, atol=2e-5, rtol=0)
    assert result.score_maps is None


@pytest.mark.parametrize('head', [TagCLIPHead(), ClassTokenHead()])
@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_features_that_are_not_finite_are_an_error(encoder, text, head, value):
    patches = torch.ones(2, 4, 64)
    patches[1, 2, 3] = value
    features = DenseFeatures(
        patches, torch.ones(2, 64), (2, 2), torch.ones(2, 5, 128), AttentionStatistics(), (2, 2)
    )
    with pytest.raises(ValueError, match=r'image \[1\] of the batch are not finite'):
        head(Encoded(features, torch.zeros(2, 3, 32, 32), encoder), named(text, 5))


def test_coarse_scores_are_probabilities(text):
    maps = coarse_scores(torch.randn(2, 6, 64), text, 100.0)
    torch.testing.assert_close(maps.sum(-1), torch.ones(2, 6))
