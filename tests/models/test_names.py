"""Names and options of a call: one encoder, and models that stay as they are."""

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
    original = TextEncoder.encode_classes
    monkeypatch.setattr(
        TextEncoder,
        'encode_classes',
        lambda self, classes: names.extend(one[0] for one in classes) or original(self, classes),
    )
    return names


def data(*sizes):
    """Images of these sizes, without samples."""
    return {'inputs': batch(*sizes)['inputs']}


def predict(model, inputs, **options):
    return model.predict(**model.data_preprocessor({**inputs, 'data_samples': None}), **options)


def test_names_of_a_call_equal_a_tagger_built_with_them(build):
    tagger, images = build(), data((64, 96, 1), (64, 96, 2))
    names = tagger.names_for(['bicycle', 'sky'])
    assert names.background.names == ('grass',)
    assert names.num_foreground == 2
    rebuilt = build(['bicycle', 'sky'], ['grass'], with_score_maps=True)
    for one, other in zip(
        predict(tagger, images, names=names), rebuilt.test_step(images), strict=True
    ):
        assert torch.equal(one.pred_score, other.pred_score)
        assert one.tags == other.tags
        assert 'score_maps' not in one
    mapped, _ = predict(tagger, images, names=names, with_score_maps=True)
    assert torch.equal(mapped.score_maps, rebuilt.test_step(images)[0].score_maps)


def test_a_call_s_options_leave_the_tagger_as_it_is(build):
    tagger, images = build(), data((64, 96, 1))
    before = tagger.text
    scores = tagger.test_step(images)[0].pred_score
    names = tagger.names_for(['zebra', 'dog'], ['water'])
    few, many = (
        predict(tagger, images, names=names, threshold=k, with_score_maps=True)[0].tags
        for k in (0.9, 0.0)
    )
    assert len(few) <= len(many)
    assert tagger.vocabulary.names == tuple(NAMES)
    assert tagger.text is before
    assert tagger.names_for().text is before
    assert tagger.head.threshold == 0.5
    assert not tagger.with_score_maps
    assert torch.equal(tagger.test_step(images)[0].pred_score, scores)


def test_only_new_names_are_encoded(build, encoded):
    tagger = build()
    assert sorted(encoded) == sorted([*NAMES, 'sky', 'grass'])
    encoded.clear()
    tagger.names_for(['cat', 'zebra'])
    tagger.names_for(['zebra', 'dog'], ['grass', 'zoo'])
    tagger.names_for(NAMES, ['sky'])
    assert encoded == ['zebra', 'zoo']


def test_bad_names_and_thresholds_are_refused(build):
    tagger = build()
    with pytest.raises(ValueError, match='classes is empty'):
        tagger.names_for([])
    with pytest.raises(ValueError, match="more than once: \\['dog'\\]"):
        tagger.names_for(['dog'], ['dog'])
    for bad in (2, -0.1):
        with pytest.raises(ValueError, match=f'threshold must be in .*, not {bad}'):
            predict(tagger, data((64, 96, 1)), threshold=bad)


def test_own_names_follow_the_tagger_to_a_device(build):
    tagger = build().to('meta')
    assert tagger.names.text.device.type == 'meta'


AFFINITY = {'type': 'mmtagclip.AffinityRefinement', 'layers': (8, 9, 10), 'box_threshold': 0.4}


def test_names_of_a_call_equal_a_segmentor_built_with_them(build):
    def segmentor(tagger, **options):
        return CLSSeg(tagger, AFFINITY, templates=TEMPLATES, **options)

    original = segmentor(build(), background_prompts=['wall', 'bird'])
    names = original.names_for(['bird', 'tree'])
    tagger = build(['bird', 'tree'])
    tagger.head.threshold = 0.2
    rebuilt = segmentor(tagger, background_prompts=['wall'])
    assert names.dataset_meta == rebuilt.dataset_meta
    images = data((64, 96, 1))
    (one,) = predict(original, images, names=names, threshold=0.2)
    (other,) = rebuilt.test_step(images)
    assert torch.equal(one.pred_sem_seg.data, other.pred_sem_seg.data)
    assert one.tags == other.tags
    assert one.tag_scores == other.tag_scores
    assert len(one.tag_scores) == len(one.tags)
    assert original.dataset_meta['classes'] == ('background', *NAMES)
    assert original.num_classes == 4
    both = original.names_for(background=['lawn'])
    assert both.tagger.background.names == both.cam.background.names == ('lawn',)


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
        merged.names_for(['bird'])
    assert len(predict(merged, data((64, 96, 1)), threshold=0.9)) == 1
