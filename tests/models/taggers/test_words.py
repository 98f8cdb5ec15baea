"""Descriptions, shortlists, hidden classes and labels of a tagger."""

import pytest
import torch

from mmtagclip.clip import Encoded, Names, Vocabulary
from mmtagclip.models import CWR, DMAR, ClassTokenHead, SegTextHead, TagCLIP, TagCLIPHead
from mmtagclip.registry import MODELS
from tests import twins
from tests.conftest import normalised

CLASSES = ['bell', 'train', 'owl', 'key']
SAID = {
    'bell': ['a clapper', 'rings'],
    'train': ['rails'],
    'owl': ['round eyes', 'a beak', 'feathers'],
    'key': ['teeth', 'used in a lock'],
}
TEMPLATES = ['a {}.']
CLOSE = {'atol': 1e-6, 'rtol': 0}


@pytest.fixture(scope='module')
def build(encoder_config):
    encoder = MODELS.build(encoder_config)

    def tagger(head=None, **options):
        return TagCLIP(
            encoder=encoder,
            head=TagCLIPHead() if head is None else head,
            classes=CLASSES,
            background=['sky', 'wall'],
            templates=TEMPLATES,
            **options,
        )

    return tagger


def encoded(tagger, size=(64, 96)):
    images = normalised(tagger.encoder, *size, 3)
    with torch.no_grad():
        return tagger.encode(images)


# Shortlists


@pytest.mark.parametrize('count', [1, 3])
@pytest.mark.parametrize('seed', [0, 1])
def test_a_shortlist_equals_its_plain_twin(encoder, count, seed):
    """DMAR and CWR of the best classes and the background alone; CWR's softmax over all names."""
    text = torch.randn(9, 64, generator=torch.Generator().manual_seed(seed))
    text = torch.nn.functional.normalize(text, dim=-1)
    names = Vocabulary.load([str(row) for row in range(9)]).phrases
    asked = Names(Vocabulary(names[:6]), Vocabulary(names[6:]), text)
    images = torch.cat([normalised(encoder, 96, 80, seed), normalised(encoder, 96, 80, seed + 5)])
    head = TagCLIPHead(DMAR((8, 9, 10)), CWR(0.1), shortlist=count)
    features = encoder(images, head.attention_layers, head.needs_votes)
    got = head(Encoded(features, images, encoder), asked)
    for row, image in enumerate(images):
        patches, _, maps, grid = twins.dense(encoder.visual, image[None])
        coarse = (encoder.logit_scale * patches @ text.T).softmax(-1)
        found = twins.shortlist(
            encoder.visual, encoder.logit_scale, text, coarse, maps, grid, image[None], 6, count
        )
        torch.testing.assert_close(got.scores[row], found[0], atol=2e-5, rtol=0)
        torch.testing.assert_close(got.score_maps[row].flatten(1), found[1], atol=2e-5, rtol=0)
        assert (got.scores[row] > 0).sum() <= count


def test_a_shortlist_of_all_changes_nothing(build):
    whole = build(TagCLIPHead(DMAR(), CWR(0.1)))
    listed = build(TagCLIPHead(DMAR(), CWR(0.1), shortlist=4))
    images = encoded(whole)
    one, other = (model.head(images, model.names) for model in (whole, listed))
    assert torch.equal(one.scores, other.scores)
    assert torch.equal(one.score_maps, other.score_maps)


@pytest.mark.parametrize(
    ('value', 'error', 'message'),
    [
        (0, ValueError, 'shortlist must be at least 1, not 0'),
        (2.0, TypeError, 'shortlist must be a whole number, not 2.0'),
        (True, TypeError, 'shortlist must be a whole number'),
        (5, ValueError, 'a shortlist of 5 is longer than the list of 4 classes'),
    ],
)
def test_bad_shortlists(build, value, error, message):
    with pytest.raises(error, match=message):
        build(TagCLIPHead(shortlist=value)).names_for()


def test_a_shortlist_longer_than_the_classes_of_a_call_is_refused(build):
    longer = build(TagCLIPHead(shortlist=5)).names_for(['a', 'b', 'c', 'd', 'e'])
    assert len(longer.vocabulary) == 5
    tagger = build(TagCLIPHead(shortlist=3))
    assert len(tagger.names_for(['a', 'b', 'c']).vocabulary) == 3
    with pytest.raises(ValueError, match='a shortlist of 3 is longer than the list of 2'):
        tagger.names_for(['a', 'b'])


# Hidden classes and labels


def test_hidden_classes_compete_and_are_never_tags(build):
    tagger = build()
    images = encoded(tagger)
    names = tagger.names_for(hide=['owl'], labels=['Glocke', 'Zug', 'Eule', 'Zug'])
    assert names.vocabulary.names == ('bell', 'train', 'key')
    assert names.labels == ('Glocke', 'Zug (train)', 'Zug (key)')
    assert names.background.names == ('owl', 'sky', 'wall')
    whole = tagger.head(images, tagger.names).scores[0]
    torch.testing.assert_close(
        tagger.head(images, names).scores[0], whole[[0, 1, 3]], atol=1e-6, rtol=0
    )
    (sample,) = tagger.predict(images.images, names=names, threshold=0.0)
    assert set(sample.tags) < set(names.labels)
    # Numbers in the order of the classes belong to the list with those that are hidden.
    rule = tagger.rule_of(names, thresholds=[0.1, 0.2, 0.3, 0.4])
    assert rule.thresholds.absolute == (0.1, 0.2, 0.4)
    with pytest.raises(ValueError, match=r"'owls' is no class.*did you mean 'owl'\?"):
        tagger.names_for(hide=['owls'])
    with pytest.raises(ValueError, match='classes is empty'):
        tagger.names_for(hide=CLASSES)


# Descriptions


def prompts(encoder, name):
    """Unit features of the prompts of a class, one by one."""
    texts = {
        'bell': ['bell, which is a clapper', 'bell, which has rings'],
        'train': ['train, which has rails'],
        'owl': ['owl, which has round eyes', 'owl, which is a beak', 'owl, which has feathers'],
        'key': ['key, which has teeth', 'key, which is used in a lock'],
    }[name]
    return torch.stack(
        [twins.text_feature(encoder.clip, encoder.tokenizer, text, ['{}']) for text in texts]
    )


@pytest.mark.parametrize('join', ['mean', 'unit', 'max', 'reweight'])
@pytest.mark.parametrize('kind', [TagCLIPHead, ClassTokenHead])
def test_scores_by_descriptions_equal_a_plain_loop(build, kind, join):
    tagger = build(kind(), descriptions={'source': SAID, 'join': join})
    images = encoded(tagger)
    token = tagger.encoder.ordinary_class_token(images.features)[0]
    looked_at = token[None] if kind is ClassTokenHead else images.features.patches[0]
    cosines = []
    for name in CLASSES:
        rows = prompts(tagger.encoder, name)
        if join == 'max':
            cosines.append((looked_at @ rows.T).amax(-1))
            continue
        weight = torch.full((len(rows),), 1 / len(rows))
        if join == 'reweight':
            weight = (rows @ token / 0.07).softmax(0)
        mean = weight @ rows
        cosines.append(looked_at @ (mean / mean.norm() if join == 'unit' else mean))
    cosines += list((looked_at @ tagger.text[4:].T).T)
    expected = (tagger.encoder.logit_scale * torch.stack(cosines, -1)).softmax(-1)[:, :4].amax(0)
    got = tagger.head(images, tagger.names).scores[0]
    torch.testing.assert_close(got, expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize('join', ['max', 'reweight'])
def test_cwr_scores_crops_by_descriptions_too(build, join):
    """With the same image in a batch of two, and other features of the second."""
    tagger = build(TagCLIPHead(cwr=CWR(0.0)), descriptions={'source': SAID, 'join': join})
    one, other = (normalised(tagger.encoder, 64, 96, seed) for seed in (3, 8))
    alone = [tagger.score(image)[0].scores for image in (one, other)]
    both = tagger.score(torch.cat([one, other]))
    for found, expected in zip(both, alone, strict=True):
        torch.testing.assert_close(found.scores, expected, atol=2e-5, rtol=0)
    coarse = build(descriptions={'source': SAID, 'join': join}).score(one)[0].scores
    assert not torch.allclose(alone[0], coarse, atol=1e-3)


def test_a_sample_says_which_descriptors_spoke(build):
    tagger = build(descriptions={'source': SAID})
    images = encoded(tagger)
    (sample,) = tagger.predict(images.images)
    maps = tagger.head(images, tagger.names).score_maps[0].flatten(1)
    patch = images.features.patches[0, maps[2].argmax()]
    rows = prompts(tagger.encoder, 'owl')
    expected = (tagger.encoder.logit_scale * rows @ patch).softmax(0)
    torch.testing.assert_close(sample.shares[3:6], expected, atol=2e-5, rtol=0)
    (plain,) = build().predict(images.images)
    assert 'shares' not in plain


def test_descriptions_of_a_call(build):
    tagger = build()
    said = {'owl': ['feathers'], 'key': SAID['key']}
    names = tagger.names_for(['key', 'owl'], descriptions=said)
    assert names.described.descriptors == (('teeth', 'used in a lock'), ('feathers',))
    with pytest.raises(ValueError, match="descriptions of 'bell', which is no class"):
        tagger.names_for(['owl', 'key'], descriptions=SAID)


def test_bad_descriptions_of_a_tagger(build):
    with pytest.raises(ValueError, match="3 of 4 classes have no descriptions, such as 'train'"):
        build(descriptions={'bell': ['rings']})
    with pytest.raises(ValueError, match="of 'belt', which is no class; did you mean 'bell'"):
        build(descriptions=SAID | {'belt': ['rings']})
    with pytest.raises(ValueError, match='8 different descriptions can not have 11 clusters'):
        build(descriptions={'source': SAID, 'join': 'tse', 'clusters': 11})


def test_words_of_a_segmentor_by_descriptions(build):
    encoder = build().encoder

    def head(join, **options):
        said = {'source': SAID, 'join': join}
        return SegTextHead(CLASSES, ['sky'], TEMPLATES, descriptions=said, **options)

    mean, best = head('mean'), head('max')
    assert mean.own.labels == [0, 1, 2, 3, 4]
    assert best.own.labels == [0, 1, 1, 2, 3, 3, 3, 4, 4]
    rows = [prompts(encoder, name) for name in CLASSES]
    sky = twins.text_feature(encoder.clip, encoder.tokenizer, 'sky', TEMPLATES)[None]
    torch.testing.assert_close(best.text(encoder), torch.cat([sky, *rows]), **CLOSE)
    means = torch.stack([one.mean(0) for one in rows])
    torch.testing.assert_close(mean.text(encoder), torch.cat([sky, means]), **CLOSE)
    assert mean.words_for(['key', 'owl']).vocabulary.names == ('key', 'owl')
    with pytest.raises(ValueError, match="1 of 2 classes have no descriptions, such as 'cow'"):
        mean.words_for(['key', 'cow'])
    with pytest.raises(ValueError, match="join='reweight' depend on the whole image"):
        head('reweight')
