"""Models with other names or options that share one encoder."""

import pytest
import torch

from mmtagclip.clip import TextEncoder
from mmtagclip.models import CLSSeg, TagCLIP
from tests.models.taggers.test_tagger import HEAD, batch

NAMES = ['dog', 'cat', 'bus']
TEMPLATES = ['a photo of a {}.']


@pytest.fixture
def build(encoder_config):
    def tagger(classes=NAMES, background=('sky', 'grass'), **options):
        return TagCLIP(
            encoder=encoder_config,
            head=HEAD,
            classes=classes,
            background=background,
            templates=TEMPLATES,
            **options,
        )

    return tagger


@pytest.fixture
def encoded(monkeypatch):
    """Names that were really encoded."""
    names = []
    original = TextEncoder.encode_class
    monkeypatch.setattr(
        TextEncoder,
        'encode_class',
        lambda self, phrases: names.append(phrases[0]) or original(self, phrases),
    )
    return names


def test_a_variant_equals_a_tagger_built_with_its_names(build):
    tagger = build()
    variant = tagger.variant(['bicycle', 'sky'])
    rebuilt = build(['bicycle', 'sky'], ['grass'], with_score_maps=True)
    assert variant.background.names == ('grass',)
    data = (64, 96, 1), (64, 96, 2)
    for one, other in zip(
        variant.test_step(batch(*data)), rebuilt.test_step(batch(*data)), strict=True
    ):
        assert torch.equal(one.pred_score, other.pred_score)
        assert one.tags == other.tags
    assert 'score_maps' not in one
    maps = variant.variant(with_score_maps=True).test_step(batch(*data))[0].score_maps
    assert torch.equal(maps, rebuilt.test_step(batch(*data))[0].score_maps)


def test_the_original_stays_and_the_encoder_is_shared(build):
    tagger = build()
    before = tagger.text
    scores = tagger.test_step(batch((64, 96, 1)))[0].pred_score
    variant = tagger.variant(['zebra'], ['water'], threshold=0.9, with_score_maps=True)
    assert variant.encoder is tagger.encoder
    assert tagger.vocabulary.names == tuple(NAMES)
    assert tagger.text is before
    assert tagger.head.threshold == 0.5
    assert not tagger.with_score_maps
    assert torch.equal(tagger.test_step(batch((64, 96, 1)))[0].pred_score, scores)


def test_only_new_names_are_encoded(build, encoded):
    tagger = build()
    assert sorted(encoded) == sorted([*NAMES, 'sky', 'grass'])
    encoded.clear()
    tagger.variant(['cat', 'zebra'])
    tagger.variant(['zebra', 'dog'], ['grass', 'zoo']).variant(NAMES, ['sky'])
    assert encoded == ['zebra', 'zoo']


def test_bad_names_and_thresholds_are_refused(build):
    tagger = build()
    with pytest.raises(ValueError, match='classes is empty'):
        tagger.variant([])
    with pytest.raises(ValueError, match="more than once: \\['dog'\\]"):
        tagger.variant(['dog'], ['dog'])
    with pytest.raises(ValueError, match='threshold must be in'):
        tagger.variant(threshold=2)


AFFINITY = {'type': 'mmtagclip.AffinityRefinement', 'layers': (8, 9, 10), 'box_threshold': 0.4}


def test_a_segmentors_variant_equals_one_built_with_its_names(build):
    def segmentor(tagger, **options):
        return CLSSeg(tagger, AFFINITY, templates=TEMPLATES, **options)

    original = segmentor(build(), background_prompts=['wall', 'bird'])
    variant = original.variant(['bird', 'tree'], threshold=0.2)
    tagger = build(['bird', 'tree'])
    tagger.head.threshold = 0.2
    rebuilt = segmentor(tagger, background_prompts=['wall'])
    assert variant.dataset_meta == rebuilt.dataset_meta
    data = batch((64, 96, 1))
    data.pop('data_samples')
    one, other = variant.test_step(data)[0], rebuilt.test_step(data)[0]
    assert torch.equal(one.pred_sem_seg.data, other.pred_sem_seg.data)
    assert one.tags == other.tags
    assert one.tag_scores == other.tag_scores
    assert len(one.tag_scores) == len(one.tags)
    assert original.dataset_meta['classes'] == ('background', *NAMES)
    assert original.num_classes == 4
    both = original.variant(background=['lawn'])
    assert both.tagger.background.names == both.background_prompts.names == ('lawn',)


def test_a_segmentor_that_merges_classes_takes_no_others(build):
    merged = CLSSeg(
        build(),
        AFFINITY,
        templates=TEMPLATES,
        with_background=False,
        label_map=[0, 0, 1],
        groups=['animal', 'vehicle'],
    )
    with pytest.raises(ValueError, match='merges its classes into groups'):
        merged.variant(['bird'])
    assert merged.variant(threshold=0.3).tagger.head.threshold == 0.3
