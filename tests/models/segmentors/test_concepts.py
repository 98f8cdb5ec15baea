"""Segmentation by concepts: golden arrays, twins, what runs how often, choices of classes."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from mmseg.structures import SegDataSample

from mmtagclip.clip import Vocabulary
from mmtagclip.models import (
    HypernymContext,
    MarginBackground,
    MaximumBackground,
    NeighbourContext,
    Preview,
    Tag,
)
from mmtagclip.models.segmentors.concept_scores import InstanceFinder, labels_of, phrase_score
from mmtagclip.models.segmentors.sam3 import Answer
from mmtagclip.registry import MODELS
from tests.conftest import picture
from tests.golden.sam3 import TINY_SAM3

CLASSES = ['dog', ('cat', 'kitten', 'tabby'), 'bus', 'traffic light', 'tree']
NAMES = ['dog', 'cat', 'bus', 'traffic light', 'tree']
PHRASES = ['background', 'dog', 'cat', 'kitten', 'tabby', 'bus', 'traffic light', 'tree']
MANY = Vocabulary.load('ade20k').names


@pytest.fixture(scope='module')
def golden():
    with np.load(Path(__file__).parents[2] / 'golden' / 'concepts.npz') as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays}


@pytest.fixture(scope='module')
def sam3(sam3_config):
    return MODELS.build(sam3_config)


@pytest.fixture(scope='module')
def build(sam3):
    """Builds segmentors that share one SAM 3."""

    def build(**changes):
        config = {
            'type': 'mmtagclip.ConceptSegmentor',
            'sam3': sam3,
            'classes': CLASSES,
            'background': ['background'],
            'confidence': 0.25,
            'with_probabilities': True,
        }
        return MODELS.build({**config, **changes})

    return build


@pytest.fixture
def runs(sam3, monkeypatch):
    """How often the parts of SAM 3 ran since."""
    counts = dict.fromkeys(('vision', 'text', 'encoder', 'decoder', 'masks'), 0)
    handles = []
    for name, part in {
        'vision': sam3.model.vision_encoder,
        'text': sam3.model.text_encoder,
        'encoder': sam3.model.detr_encoder,
        'decoder': sam3.model.detr_decoder,
        'masks': sam3.model.mask_decoder,
    }.items():

        def count(*_, name=name):
            counts[name] += 1

        handles.append(part.register_forward_pre_hook(count))
    yield counts
    for handle in handles:
        handle.remove()


def predict(segmentor, seed=1, size=(50, 71), sample=None, **options):
    image = torch.from_numpy(picture(*size, seed)[..., ::-1].copy()).permute(2, 0, 1)
    data = {'inputs': [image], 'data_samples': None if sample is None else [sample]}
    return segmentor.predict(**segmentor.data_preprocessor(data), **options)[0]


# The golden arrays


def answers(golden):
    parts = (golden[key] for key in ('presence', 'logits', 'masks', 'semantic'))
    return [Answer(*one) for one in zip(*parts, strict=True)]


def test_scores_are_the_golden_ones(golden):
    size = tuple(golden['size'].tolist())
    got = torch.stack([phrase_score(one, size, 0.3) for one in answers(golden)])
    assert (got - golden['scores']).abs().max() < 1e-6


def test_labels_are_the_golden_ones(golden):
    scores = golden['scores']
    got = labels_of(scores, range(6), scores.shape[1:], 'cpu', MarginBackground(0.4))
    assert torch.equal(got, golden['labels_thd04'])


@pytest.mark.parametrize('share, most', [('0.2', 40), ('0.5', 40), ('0.01', 40)])
def test_preview_keeps_the_golden_phrases(golden, share, most):
    chosen = Preview(672, float(share), most)(golden['active_presence'])
    assert chosen == golden[f'active_{share}_{most}'].tolist()


def test_neighbours_are_the_golden_ones(golden):
    weighted = NeighbourContext(2).neighbours(golden['pooled'])
    got = F.linear(weighted, golden['resizer_weight'], golden['resizer_bias'])
    assert (got - golden['neighbour_tokens']).abs().max() < 1e-6


# Twins


def plain_scores(answer, size, confidence):
    """The formula of the page, all at once."""

    def grow(maps):
        return F.interpolate(maps[None], size, mode='bilinear', align_corners=False)[0].sigmoid()

    p = torch.sigmoid(answer.presence)
    o = torch.sigmoid(answer.logits) * p
    kept = o > confidence
    instances = (o[kept, None, None] * grow(answer.masks)[kept]).amax(0) if kept.any() else 0
    return p * torch.maximum(torch.as_tensor(instances), grow(answer.semantic[None])[0])


@pytest.mark.parametrize('rule', [None, MaximumBackground(0.3), MarginBackground(0.2)])
def test_labels_equal_their_plain_twin(rule):
    generator = torch.Generator().manual_seed(3)
    planes = torch.rand(7, 30, 40, generator=generator)
    planes[:, :3] = planes[:1, :3]  # equal scores
    got = labels_of(planes, range(7), (30, 40), 'cpu', rule)
    expected = planes.argmax(0)
    first, second = planes.topk(2, dim=0).values
    if isinstance(rule, MaximumBackground):
        expected[first < 0.3] = 0
    elif rule is not None:
        expected[first * (first - second).sqrt() < 0.2**1.25] = 0
    assert torch.equal(got, expected)
    assert 0 < (got == 0).float().mean() < 0.9
    if rule is not None:  # of one label alone the second is 0
        alone = labels_of(planes[:1], [4], (30, 40), 'cpu', rule)
        level = planes[0] < 0.3 if not rule.needs_second else planes[0] ** 1.5 < 0.2**1.25
        assert torch.equal(alone, torch.where(level, 0, 4))


def test_a_prediction_equals_its_plain_twin(build, sam3):
    """From the model's own forward pass, one phrase at a time, without our encoding of texts."""
    segmentor = build(background_rule={'type': 'mmtagclip.MarginBackground', 'threshold': 0.15})
    sample = predict(segmentor)
    pixels = torch.from_numpy(picture(50, 71, 1).copy()).permute(2, 0, 1)[None].float() / 255
    pixels = F.interpolate(pixels, (224, 224), mode='bilinear', antialias=True) * 2 - 1
    planes, presence = {}, {}
    for label, words in enumerate([('background',), *map(np.atleast_1d, CLASSES)]):
        for word in map(str, words):
            ids = open_clip.tokenize([word], context_length=32)
            with torch.no_grad():
                out = sam3.model(
                    pixel_values=pixels, input_ids=ids, attention_mask=(ids != 0).long()
                )
            answer = Answer(
                out.presence_logits[0, 0], out.pred_logits[0], out.pred_masks[0],
                out.semantic_seg[0, 0],
            )  # fmt: skip
            scores = plain_scores(answer, (50, 71), 0.25)
            planes[label] = torch.maximum(planes.get(label, scores), scores)
            presence[word] = float(answer.presence.sigmoid())
    planes = torch.stack(list(planes.values()))
    assert sample.plane_labels == list(range(6))
    assert torch.allclose(sample.probabilities.data, planes, atol=1e-5)
    assert sample.asked == pytest.approx(presence, abs=1e-5)
    first, second = planes.topk(2, dim=0).values
    confident = first * (first - second).sqrt() > 0.15**1.25
    labels = torch.where(confident, planes.argmax(0), 0)
    assert (sample.pred_sem_seg.data[0] == labels).float().mean() > 0.999
    assert 0 < confident.float().mean() < 1


def test_the_preview_has_the_positions_of_its_size(sam3):
    """It equals a model that was built for that size, and the large one stays as it is."""
    from transformers import Sam3Config, Sam3Model

    settings = deepcopy(TINY_SAM3)
    settings['vision_config']['backbone_config']['image_size'] = 112
    small = Sam3Model(Sam3Config(**settings)).eval()
    small.load_state_dict(sam3.model.state_dict())
    image = torch.randn(3, 112, 112, generator=torch.Generator().manual_seed(1))
    large = torch.randn(3, 224, 224, generator=torch.Generator().manual_seed(2))
    prompts = [one.tokens for one in sam3.phrases([('dog', 'dog'), ('traffic light',) * 2])]
    with torch.no_grad():
        before = sam3.encode(large).fpn_hidden_states[2]
        vision, expected = sam3.encode(image, 112), small.get_vision_features(image[None])
        assert torch.equal(sam3.encode(large).fpn_hidden_states[2], before)
        presence = sam3.presence(vision, prompts)
        answered = [one.presence.sigmoid() for one in sam3.ask(vision, prompts)]
    for one, other in zip(vision.fpn_hidden_states, expected.fpn_hidden_states, strict=True):
        assert torch.allclose(one, other, atol=1e-6)
    assert torch.allclose(presence, torch.stack(answered), atol=1e-6)
    assert presence.std() > 1e-4
    with pytest.raises(ValueError, match='113 pixels is no multiple of 14'):
        sam3.encode(image, 113)


# How often what runs


def test_phrases_in_batches_equal_phrases_one_by_one(sam3, sam3_config):
    one_by_one = MODELS.build({**sam3_config, 'model': sam3.model, 'max_phrases': 1,
                               'checkpoint': None})  # fmt: skip
    prompts = [one.tokens for one in sam3.phrases([(word, word) for word in PHRASES])]
    with torch.no_grad():
        vision = sam3.encode(torch.randn(3, 224, 224, generator=torch.Generator().manual_seed(1)))
        together, alone = list(sam3.ask(vision, prompts)), list(one_by_one.ask(vision, prompts))
        presence = sam3.presence(vision, prompts), one_by_one.presence(vision, prompts)
    assert len(together) == len(PHRASES)
    for one, other in zip(together, alone, strict=True):
        for a, b in zip(one, other, strict=True):
            assert (a - b).abs().max() <= 1e-4 * a.abs().max().clamp(min=1)
    assert torch.allclose(*presence, atol=1e-6)


def test_the_vision_features_of_a_batch_are_not_copied(sam3, monkeypatch):
    seen = []
    forward = sam3.model.forward

    def spy(vision_embeds, **kwargs):
        seen.extend(vision_embeds.fpn_hidden_states)
        return forward(vision_embeds=vision_embeds, **kwargs)

    monkeypatch.setattr(sam3.model, 'forward', spy)
    with torch.no_grad():
        vision = sam3.encode(torch.zeros(3, 224, 224))
        list(sam3.ask(vision, [one.tokens for one in sam3.phrases([('dog', 'dog'), ('cat',) * 2])]))
    assert [len(one) for one in seen] == [2, 2, 2, 2]
    for one, level in zip(seen, vision.fpn_hidden_states, strict=True):
        assert one.data_ptr() == level.data_ptr()


def test_five_of_150_classes_cost_five_phrases(build, runs):
    segmentor = build(classes=list(MANY), tags='given')
    assert runs['text'] >= 140  # but for those that other tests had asked for
    runs.update(dict.fromkeys(runs, 0))
    sample = SegDataSample(metainfo={'ori_shape': (50, 71), 'tag_labels': [3, 7, 20, 80, 149]})
    result = predict(segmentor, sample=sample)
    # Six phrases with the background's, three at a time.
    assert runs == {'vision': 1, 'text': 0, 'encoder': 2, 'decoder': 2, 'masks': 2}
    assert list(result.asked) == ['background', *(MANY[index] for index in (3, 7, 20, 80, 149))]
    assert result.tags == [MANY[index] for index in (3, 7, 20, 80, 149)]
    assert set(result.pred_sem_seg.data.unique().tolist()) <= {0, 4, 8, 21, 81, 150}
    runs.update(dict.fromkeys(runs, 0))
    predict(build(classes=list(MANY), tags='given'), sample=sample)
    assert runs['text'] == 0


def test_a_preview_skips_the_mask_head(build, runs):
    preview = {'type': 'mmtagclip.Preview', 'side': 112, 'share': 0.2, 'most': 6}
    segmentor = build(classes=list(MANY), preview=preview)
    runs.update(dict.fromkeys(runs, 0))
    result = predict(segmentor)
    asked = list(result.asked)
    assert len(asked) == 6
    # The preview's own tower shares the weights, but is another module.
    assert runs == {'vision': 1, 'text': 0, 'encoder': 53, 'decoder': 53, 'masks': 2}
    # The six of the highest presence.
    image = torch.from_numpy(picture(50, 71, 1).copy()).permute(2, 0, 1).float() / 127.5 - 1
    sam3, names = segmentor.sam3, segmentor.names
    with torch.no_grad():
        vision = sam3.encode(image, 112)
        presence = sam3.presence(vision, [one.tokens for one in names.phrases])
    best = presence.topk(6).indices.sort().values.tolist()
    assert asked == [names.phrases[index].text for index in best]
    # With few enough phrases there is no look, and tags need none.
    runs.update(dict.fromkeys(runs, 0))
    few = predict(segmentor, names=segmentor.names_for(NAMES))
    assert (runs['decoder'], len(few.asked)) == (2, 6)
    encoded = segmentor.encode(image)
    tagged = segmentor.masks(encoded, tags=[Tag(5, 0.5)])
    assert list(tagged.asked) == ['background', MANY[5]]


# Choices of classes


def test_an_image_without_tags_is_background(build, runs):
    sample = SegDataSample(metainfo={'ori_shape': (50, 71), 'tag_labels': []})
    for background, value in ((['background'], 0), ((), 255)):
        segmentor = build(background=background, tags='given', with_seg_logits=True)
        result = predict(segmentor, sample=sample)
        assert (result.pred_sem_seg.data == value).all()
        assert result.asked == {}
        assert runs['decoder'] == 0
        assert len(result.probabilities.data) == len(background)
        assert result.seg_logits.data.shape == (len(NAMES) + len(background), 50, 71)


def test_ground_truth_is_asked_for(build):
    from mmengine.structures import PixelData

    mask = torch.full((1, 50, 71), 2)
    mask[:, :9], mask[:, 20:] = 0, 255
    sample = SegDataSample(metainfo={'ori_shape': (50, 71)})
    sample.set_data({'gt_sem_seg': PixelData(data=mask)})
    result = predict(build(tags='ground_truth'), sample=sample)
    assert list(result.asked) == ['background', 'cat', 'kitten', 'tabby']


def test_the_tagger_decides(build, encoder_config):
    tagger = {
        'type': 'mmtagclip.TagCLIP',
        'encoder': encoder_config,
        'classes': NAMES,
        'templates': ['a photo of a {}.'],
        'head': {'type': 'mmtagclip.TagCLIPHead', 'threshold': 0.5},
    }
    segmentor = build(tags='own', tagger=tagger)
    sample = SegDataSample(
        metainfo={'ori_shape': (50, 71), 'original': picture(50, 71, 1)[..., ::-1]}
    )
    result = predict(segmentor, sample=sample, top=2)
    assert 1 <= len(result.tags) <= 2
    rows = [0, *(row for row, word in enumerate(PHRASES) if row and _class_of(word) in result.tags)]
    assert list(result.asked) == [PHRASES[row] for row in rows]
    assert list(result.class_scores) == NAMES
    # The same tags, given: the same masks.
    given = build(tags='given')
    labels = [NAMES.index(tag) for tag in result.tags]
    again = predict(
        given, sample=SegDataSample(metainfo={'ori_shape': (50, 71), 'tag_labels': labels})
    )
    assert torch.equal(again.pred_sem_seg.data, result.pred_sem_seg.data)
    with pytest.raises(ValueError, match='the tagger needs the original image'):
        predict(segmentor, sample=SegDataSample(metainfo={'ori_shape': (50, 71)}))


def _class_of(word):
    return 'cat' if word in ('kitten', 'tabby') else word


def test_names_of_a_call_equal_a_segmentor_built_with_them(build):
    context = [{'type': 'mmtagclip.NeighbourContext'}]
    segmentor = build(context=context)
    for classes, background in (
        (['tree', ('dog', 'puppy')], ['sky', 'wall']),
        (['bus', 'cow'], None),
        (None, []),
    ):
        names = segmentor.names_for(classes, background)
        rebuilt = build(
            classes=classes or CLASSES,
            background=['background'] if background is None else background,
            context=context,
        )
        one, other = predict(segmentor, names=names), predict(rebuilt)
        assert names.dataset_meta == rebuilt.dataset_meta
        assert torch.equal(one.pred_sem_seg.data, other.pred_sem_seg.data)
        assert torch.equal(one.probabilities.data, other.probabilities.data)
        assert one.asked == other.asked


def test_a_level_of_the_call_replaces_the_rule(build):
    segmentor = build(background_rule={'type': 'mmtagclip.MarginBackground', 'threshold': 0.9})
    assert (predict(segmentor).pred_sem_seg.data == 0).all()
    planes = predict(segmentor).probabilities.data
    level = float(planes.amax(0).median())
    result = predict(segmentor, background_level=level)
    expected = torch.where(planes.amax(0) < level, 0, planes.argmax(0))
    assert torch.equal(result.pred_sem_seg.data[0], expected)


# Context tokens


def test_context_tokens_follow_those_of_the_phrase(build, sam3, tmp_path):
    words = tmp_path / 'words.csv'
    words.write_text('dog, canine, domestic animal, carnivore\nbus, vehicle\n')
    segmentor = build(
        context=[
            {'type': 'mmtagclip.NeighbourContext', 'count': 2},
            {'type': 'mmtagclip.HypernymContext', 'words': str(words)},
        ]
    )
    names = segmentor.names
    assert [len(one) for one in names.context] == [2, 4, 2, 2, 2, 3, 2, 2]
    vehicle = sam3.model.text_encoder.get_input_embeddings().weight[[49406, 5299, 49407]].mean(0)

    assert open_clip.tokenize(['vehicle'])[0, :3].tolist() == [49406, 5299, 49407]
    assert torch.allclose(names.context[5][2], sam3.project(vehicle), atol=1e-6)
    assert not torch.allclose(
        predict(segmentor).probabilities.data, predict(build()).probabilities.data, atol=1e-4
    )
    # As a dict, and of phrases that nobody asks for.
    part = HypernymContext({'bus': ['vehicle'], 'cow': 'bovine'})
    assert [len(one) for one in part(names.phrases, sam3)] == [0, 0, 0, 0, 0, 1, 0, 0]


# Instances


def test_instances_of_the_classes(build, sam3):
    segmentor = build(with_instances=True, confidence=0.1)
    result = predict(segmentor)
    found = result.pred_instances
    assert len(found.scores) == len(found.labels) == len(found.masks) > 1
    assert found.masks.shape[1:] == (50, 71)
    assert found.masks.dtype == torch.bool
    assert (found.scores > 0.1).all()
    order = [
        (int(label), -float(score)) for label, score in zip(found.labels, found.scores, strict=True)
    ]
    assert order == sorted(order)
    assert 'pred_instances' not in predict(build())


def test_an_instance_of_two_phrases_is_there_once():
    mask = torch.full((3, 8, 8), -9.0)
    mask[0, :4], mask[1, 4:], mask[2, :4, :6] = 9, 9, 9

    def answer(*logits):
        return Answer(torch.tensor(9.0), torch.tensor(logits), mask, mask[0])

    finder = InstanceFinder((16, 16), 0.4)
    finder.add(1, 0, answer(3.0, 2.0, -9.0))
    finder.add(1, 1, answer(-9.0, 2.5, 1.0))  # the second again, and most of the first
    finder.add(0, 2, answer(1.5, -9.0, 1.0))  # one phrase of another class: both stay
    found = finder.result()
    assert found.labels.tolist() == [0, 0, 1, 1]
    expected = torch.tensor([1.5, 1.0, 3.0, 2.5]).sigmoid() * torch.tensor(9.0).sigmoid()
    assert torch.allclose(found.scores, expected)
    assert found.masks.sum(dim=(1, 2)).tolist() == [128, 96, 128, 128]
    # A mask without a pixel is none.
    none = InstanceFinder((16, 16), 0.4)
    none.add(0, 0, Answer(torch.tensor(9.0), torch.tensor([3.0]), mask[:1] * 0 - 9, mask[0]))
    assert none.result().masks.shape == (0, 16, 16)


def test_instances_are_not_merged_over_views(build):
    with pytest.raises(ValueError, match='can not be merged: leave out with_instances'):
        predict(build(with_instances=True, with_seg_logits=True))


# Augmentation


@pytest.mark.parametrize('direction, axes', [('horizontal', (2,)), ('diagonal', (1, 2))])
def test_masks_of_a_flipped_image_are_flipped_back(build, direction, axes):
    segmentor = build(with_instances=True, confidence=0.1)
    image = torch.from_numpy(picture(50, 71, 1).copy()).permute(2, 0, 1)
    plain = segmentor.predict([image.flip(axes).float() / 127.5 - 1])[0]
    sample = SegDataSample(
        metainfo={'ori_shape': (50, 71), 'flip': True, 'flip_direction': direction}
    )
    back = segmentor.predict([image.flip(axes).float() / 127.5 - 1], [sample])[0]
    assert torch.allclose(back.probabilities.data, plain.probabilities.data.flip(axes), atol=1e-5)
    assert (
        back.pred_instances.masks != plain.pred_instances.masks.flip(axes)
    ).float().mean() < 0.01


def test_views_are_merged_by_the_mean_of_their_scores(build):
    rule = {'type': 'mmtagclip.MaximumBackground', 'threshold': 0.24}
    segmentor = build(with_seg_logits=True, background_rule=rule)
    views = [predict(segmentor, seed=seed) for seed in (1, 2)]
    mean = (views[0].probabilities.data + views[1].probabilities.data) / 2
    merged = segmentor.merge_views([view.seg_logits.data for view in views])
    expected = torch.where(mean.amax(0) < 0.24, 0, mean.argmax(0))
    assert (merged.labels == expected).float().mean() > 0.999
    assert torch.allclose(merged.planes, mean, atol=1e-5)
    assert torch.equal(segmentor.merge_views([views[0].seg_logits.data]).labels,
                       views[0].pred_sem_seg.data[0])  # fmt: skip


def test_features_of_images(build):
    features = build().extract_feat(torch.zeros(2, 3, 60, 80))
    assert features.shape == (2, 256, 32)


# Refusals


@pytest.mark.parametrize(
    'changes, message',
    [
        ({'classes': ['cat', 'background', 'dog']}, "class 1 is called 'background', which is no"),
        ({'classes': ['background', 'dog'], 'background': ()}, "class 0 is called 'background'"),
        ({'classes': ['dog', ('cat', 'dog')]}, "'dog' occurs twice, in 'dog' and 'cat'"),
        ({'classes': ['Dog', 'dog']}, "'Dog' and 'dog' are the same phrase to the tokenizer"),
        ({'classes': ['dog', ('fog', 'a ' * 31)]}, "class 'fog' has a phrase of 33 tokens"),
        ({'confidence': 1.5}, r'confidence in \[0, 1\], not 1.5'),
        ({'tags': 'own'}, "tags='own' needs a tagger"),
        ({'tags': 'guess'}, 'tags must be one of own, given, ground_truth, or None'),
        (
            {'background': (), 'background_rule': {'type': 'mmtagclip.MaximumBackground',
                                                   'threshold': 0.4}},
            'MaximumBackground needs phrases of a background',
        ),
        ({'background_rule': {'type': 'mmtagclip.MarginBackground', 'threshold': 2}}, 'not 2'),
        ({'background_rule': {'type': 'mmtagclip.MaximumBackground', 'threshold': -1}}, 'not -1'),
        ({'preview': {'type': 'mmtagclip.Preview', 'share': 0}}, r'share in \(0, 1\], not 0'),
        ({'preview': {'type': 'mmtagclip.Preview', 'most': 0}}, 'most to be at least 1, not 0'),
        ({'preview': {'type': 'mmtagclip.Preview', 'side': 0}}, 'side to be at least 1, not 0'),
        (
            {'context': [{'type': 'mmtagclip.NeighbourContext', 'count': 0}]},
            'NeighbourContext needs count to be at least 1, not 0',
        ),
        (
            {'context': [{'type': 'mmtagclip.HypernymContext', 'words': {}, 'count': -1}]},
            'HypernymContext needs count to be at least 1, not -1',
        ),
        (
            {'data_preprocessor': {'type': 'mmtagclip.CLIPDataPreprocessor', 'mean': (0.4,) * 3}},
            r'was trained with mean=\(0.5, 0.5, 0.5\)',
        ),
    ],
)  # fmt: skip
def test_bad_options_are_refused(build, changes, message):
    with pytest.raises(ValueError, match=message):
        build(**changes)


def test_bad_names_of_a_call_are_refused(build):
    segmentor = build(background_rule={'type': 'mmtagclip.MaximumBackground', 'threshold': 0.4})
    with pytest.raises(ValueError, match="class 2 is called 'background'"):
        segmentor.names_for(['dog', 'cat', 'background'])
    with pytest.raises(ValueError, match='needs phrases of a background'):
        segmentor.names_for(background=[])
    with pytest.raises(ValueError, match='has no tagger, so it takes no top'):
        predict(segmentor, top=3)


def test_numbers_that_are_not_finite_are_refused(build, sam3, monkeypatch):
    monkeypatch.setattr(
        sam3.model.mask_decoder.semantic_projection, 'forward', lambda x: x[:, :1] * torch.nan
    )
    with pytest.raises(ValueError, match='what SAM 3 returns is not finite'):
        predict(build())


def test_a_preview_that_is_not_finite_is_refused(build, monkeypatch):
    """It would choose no phrase, as if nothing were there."""
    segmentor = build(classes=list(MANY), preview={'type': 'mmtagclip.Preview', 'side': 112})
    presence = torch.rand(len(segmentor.names.phrases))
    presence[3] = torch.nan
    monkeypatch.setattr(segmentor.sam3, 'presence', lambda *_: presence)
    with pytest.raises(ValueError, match='what SAM 3 returns is not finite'):
        predict(segmentor)
