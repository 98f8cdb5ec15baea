"""What all segmentors share: names of a call, tags with scores, one encoding, augmented views."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from mmengine.dataset import Compose, pseudo_collate
from PIL import Image

from mmtagclip.models import Masks, SegTextHead, Tag, TrainingFreeTTA
from mmtagclip.registry import MODELS
from tests.conftest import picture
from tests.models.segmentors.test_direct import batch

CLASSES = ['dog', ('cat', 'kitten'), 'bus', 'traffic light']
NAMES = ['dog', 'cat', 'bus', 'traffic light']
BACKGROUND = ['sky', 'wall']
OTHERS = [
    (['tree', ('dog', 'puppy'), 'sky'], None),
    ([('dog', 'puppy'), 'tree'], ['grass']),
    (['tree', ('dog', 'puppy')], ['grass', 'water']),
    (None, ['grass']),
]
SIZE = (64, 96, 3)


@pytest.fixture(scope='module')
def configs(encoder_config):
    tagger = {
        'type': 'mmtagclip.TagCLIP',
        'classes': NAMES,
        'background': BACKGROUND,
        'templates': ['a photo of a {}.'],
        'head': {
            'type': 'mmtagclip.TagCLIPHead',
            'threshold': 0.3,
            'dmar': {'type': 'mmtagclip.DMAR', 'layers': (8, 9, 10)},
            'cwr': {'type': 'mmtagclip.CWR', 'threshold': 0.1},
        },
    }
    direct = {
        'type': 'mmtagclip.DirectSegmentor',
        'encoder': {**encoder_config, 'last_block': {'type': 'mmtagclip.SCLIPLastBlock'}},
        'head': {
            'type': 'mmtagclip.SegTextHead',
            'classes': CLASSES,
            'background': BACKGROUND,
            'templates': ['a photo of a {}.', 'a {}.'],
            'background_threshold': 0.16,
            'area_threshold': 0.1,
        },
        'windows': {'type': 'mmtagclip.SlidingWindows', 'size': 32, 'stride': 32},
    }
    whole = {**direct, 'windows': None}
    return {
        'cls_seg': {
            'type': 'mmtagclip.CLSSeg',
            'tagger': {**tagger, 'encoder': encoder_config},
            'affinity': {
                'type': 'mmtagclip.AffinityRefinement',
                'layers': (4, 5),
                'box_threshold': 0.4,
            },
            'background_prompts': BACKGROUND,
        },
        'direct': direct,
        'guided': {**direct, 'tags': 'own', 'tagger': tagger},
        'guided by another': {
            **direct,
            'tags': 'own',
            'tagger': {**tagger, 'encoder': encoder_config},
        },
        'views': {
            **direct,
            'views': {'type': 'mmtagclip.ImageViews'},
            'logit_processor': {'type': 'mmtagclip.PAMR', 'iterations': 2},
            'label_processor': {'type': 'mmtagclip.LabelClosing'},
        },
        'smoothed': {
            **whole,
            'head': {**direct['head'], 'background_threshold': 0.0},
            'patch_processor': {'type': 'mmtagclip.MaskCLIPRefinement', 'key_smoothing': 0.9},
        },
    }


@pytest.fixture(scope='module')
def build(configs):
    def build(kind, head=None, **changes):
        config = deepcopy({**configs[kind], **changes})
        if head:
            config['head'].update(head)
        return MODELS.build(config)

    return build


KINDS = ['cls_seg', 'direct', 'guided', 'guided by another', 'views', 'smoothed']
TAGGED = ['cls_seg', 'guided', 'guided by another']


def predict(segmentor, data, **options):
    return segmentor.predict(**segmentor.data_preprocessor(data), **options)


def same(one, other):
    """Whether two samples have the same masks, probabilities and tags, to the last bit."""
    return (
        torch.equal(one.pred_sem_seg.data, other.pred_sem_seg.data)
        and torch.equal(one.probabilities.data, other.probabilities.data)
        and one.plane_labels == other.plane_labels
        and one.get('tags') == other.get('tags')
        and one.get('tag_scores') == other.get('tag_scores')
    )


# Names of a call


@pytest.mark.parametrize('kind', ['cls_seg', 'direct', 'guided', 'smoothed'])
def test_names_of_a_call_equal_a_segmentor_built_with_them(build, configs, kind):
    """Each twice, in turns, so that a call disturbs no other."""
    segmentor = build(kind, with_probabilities=True)
    own = predict(segmentor, batch(SIZE))[0]
    meta = segmentor.dataset_meta
    plain = CLASSES if kind in ('direct', 'smoothed') else NAMES
    calls = []
    for classes, background in OTHERS:
        if classes is None and kind == 'guided':
            continue  # its two parts have other names for the same classes
        asked = plain if classes is None else classes
        behind = background or [name for name in BACKGROUND if name not in asked]
        tagged = {'classes': asked, 'background': behind}
        changes = {'with_probabilities': True}
        if kind in ('cls_seg', 'guided'):
            changes['tagger'] = {**configs[kind]['tagger'], **tagged}
        if kind == 'cls_seg':
            changes['background_prompts'] = behind
        rebuilt = build(kind, None if kind == 'cls_seg' else tagged, **changes)
        names = segmentor.names_for(classes, background)
        assert names.dataset_meta == rebuilt.dataset_meta
        assert names.num_labels == rebuilt.num_classes
        calls.append((names, predict(rebuilt, batch(SIZE))[0]))
    for names, expected in [*calls, *calls[::-1]]:
        assert same(predict(segmentor, batch(SIZE), names=names)[0], expected)
    assert same(own, predict(segmentor, batch(SIZE))[0])
    assert segmentor.dataset_meta is meta


def test_a_head_s_own_background_loses_all_words_of_the_classes():
    head = SegTextHead(['dog'], ['sky', 'wall', 'tree'])
    assert head.words_for([('heaven', 'sky'), 'tree']).background == ('wall',)
    assert head.words_for(['sky', 'wall', 'tree']).labels == [0, 1, 2]
    assert head.words_for(['cat'], ['sky']).labels == [0, 1]
    with pytest.raises(ValueError, match=r'area_threshold=0\.1 needs words of a background'):
        SegTextHead(['dog'], ['sky'], area_threshold=0.1).words_for(['sky'])
    with pytest.raises(ValueError, match="'sky' occurs twice, in the background and 'sky'"):
        head.words_for(['sky'], ['sky'])
    with pytest.raises(ValueError, match='classes is empty'):
        head.words_for([])


def test_what_a_call_can_not_have(build):
    direct = build('direct')
    for options, message in [
        ({'threshold': 0.5}, 'this DirectSegmentor has no tagger, so it takes no threshold'),
        ({'background_level': 1.0}, r'background level must be in \(0, 1\), not 1.0'),
        ({'background_level': 0}, r'background level must be in \(0, 1\), not 0'),
    ]:
        with pytest.raises(ValueError, match=message):
            predict(direct, batch(SIZE), **options)
    without = {'background': (), 'background_threshold': 0, 'area_threshold': 0}
    for one in (build('direct', without), build('cls_seg', with_background=False)):
        with pytest.raises(ValueError, match='has no background, so it takes no background level'):
            one.masks(one.encode(*encodable(one)), background_level=0.5)
    with pytest.raises(ValueError, match='key_smoothing leaves no probabilities'):
        predict(build('smoothed'), batch(SIZE), background_level=0.5)
    with pytest.raises(ValueError, match='threshold must be in'):
        predict(build('guided'), batch(SIZE), threshold=1.5)
    described = build('direct', {'descriptions': ['It barks.', 'It purrs.', 'It rolls.', 'Lit.']})
    assert described.names_for().words == described.head.own
    for names in ({'classes': ['cow']}, {'background': ['sea']}):
        with pytest.raises(ValueError, match='takes no others; use one without descriptions'):
            described.names_for(**names)


# Tags with scores


def test_tag_scores_of_a_guided_segmentor_are_the_tagger_s_through_its_own_pipeline(
    build, tmp_path
):
    """From one file with much red and little blue: BGR in the place of RGB gives other scores."""
    path = tmp_path / 'reddish.png'
    pixels = (picture(50, 90, 4) * np.array([1.0, 0.4, 0.1])).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    tagging = [
        {'type': 'mmtagclip.LoadImage'},
        {'type': 'mmtagclip.ResizeToPatchGrid', 'patch_size': 16},
        {'type': 'mmpretrain.PackInputs'},
    ]
    segmenting = [
        {'type': 'mmseg.LoadImageFromFile', 'imdecode_backend': 'pillow'},
        {'type': 'mmtagclip.KeepImage'},
        {'type': 'mmtagclip.ResizeToPatchGrid', 'patch_size': 16},
        {
            'type': 'mmseg.PackSegInputs',
            'meta_keys': ('img_path', 'ori_shape', 'original'),
        },
    ]

    def through(steps, model):
        inputs = {'img_path': str(path), 'seg_fields': []}
        return model.test_step(pseudo_collate([Compose(deepcopy(steps))(inputs)]))[0]

    for kind in TAGGED:
        segmentor = build(kind)
        alone = through(tagging, segmentor.tagger)
        sample = through(segmenting, segmentor)
        assert sample.tag_labels == alone.pred_label.tolist()
        assert sample.tag_labels == sorted(sample.tag_labels)
        assert sample.tags == [NAMES[label] for label in sample.tag_labels]
        assert sample.tag_scores == alone.pred_score[alone.pred_label].tolist()
        Image.fromarray(pixels[..., ::-1].copy()).save(path)
        swapped = through(tagging, segmentor.tagger)
        assert (swapped.pred_score - alone.pred_score).abs().max() > 1e-3
        Image.fromarray(pixels).save(path)


@pytest.mark.parametrize('kind', ['cls_seg', 'direct'])
def test_given_tags_have_no_scores(build, kind):
    (sample,) = predict(build(kind, tags='given'), batch(SIZE, tag_labels=[2, 0]))
    assert sample.tags == ['dog', 'bus']
    assert 'tag_scores' not in sample


def test_a_threshold_of_the_call_gives_other_tags(build):
    for kind in ('cls_seg', 'guided'):
        segmentor = build(kind)
        counts = [
            len(predict(segmentor, batch(SIZE), threshold=k)[0].tags) for k in (0.0, 0.3, 0.999)
        ]
        assert counts[0] == len(NAMES) - 1
        assert counts[2] == 1
        assert len(predict(segmentor, batch(SIZE))[0].tags) == counts[1]


# Encoded once


def encodable(segmentor):
    """The image and the original of a batch of one, as ``encode`` takes them."""
    data = segmentor.data_preprocessor(batch(SIZE, original=(50, 80)))
    return data['inputs'][0], data['data_samples'][0].original


@pytest.mark.parametrize('kind', KINDS)
def test_masks_of_an_encoded_image_are_those_of_predict_without_the_encoder(
    build, kind, monkeypatch
):
    segmentor = build(kind, with_probabilities=True)
    other = segmentor.names_for(['tree', ('dog', 'puppy')], ['grass', 'wall'])
    expected = [
        predict(segmentor, batch(SIZE, original=(50, 80)), names=names)[0]
        for names in (None, other)
    ]
    encoded = segmentor.encode(*encodable(segmentor))
    assert (encoded.tagging is None) == (segmentor.tagger is None)

    def refuse(*args):
        raise AssertionError('encoded again')

    monkeypatch.setattr(segmentor.encoder, 'forward', refuse)
    for names, sample in zip((None, other, None), [*expected, expected[0]], strict=True):
        assert same(segmentor.masks(encoded, names), sample)
    few = segmentor.masks(encoded, other, [Tag(1, 0.7)])
    assert (few.tags, few.tag_scores) == (['dog'], [0.7])
    assert 1 not in few.pred_sem_seg.data


@pytest.mark.parametrize('kind', ['cls_seg', 'guided', 'direct'])
def test_a_background_level(build, kind):
    """Of CLS-SEG the level of the maps; of the others the threshold of the probabilities."""
    head = None if kind == 'cls_seg' else {'area_threshold': 0}
    segmentor = build(kind, head, with_probabilities=True)
    encoded = segmentor.encode(*encodable(segmentor))
    for level in (0.2, 0.31, 0.6):
        sample = segmentor.masks(encoded, background_level=level)
        (predicted,) = predict(segmentor, batch(SIZE, original=(50, 80)), background_level=level)
        assert same(predicted, sample)
        planes = sample.probabilities.data.numpy()
        labels = np.asarray(sample.plane_labels)[planes.argmax(0)]
        if kind == 'cls_seg':
            background = planes[1:].max(0) <= level
            clear = np.abs(planes[1:].max(0) - level) > 1e-5
            got = sample.pred_sem_seg.data[0].numpy() == 0
            assert (got == background)[clear].all()
        else:
            labels[planes.max(0) < np.float32(level)] = 0
            assert np.array_equal(sample.pred_sem_seg.data[0].numpy(), labels)


def test_an_original_that_is_needed_is_asked_for(build):
    guided = build('guided')
    image, _ = encodable(guided)
    with pytest.raises(ValueError, match='the tagger needs the original'):
        guided.encode(image)
    assert build('direct').encode(image, size=(50, 80)).size == (50, 80)
    assert build('direct').encode(image).size == (64, 96)


# Augmented views


@pytest.mark.parametrize('direction', ['horizontal', 'vertical', 'diagonal'])
@pytest.mark.parametrize('kind', ['cls_seg', 'direct'])
def test_a_flipped_image_gives_masks_that_are_turned_back(build, kind, direction):
    segmentor = build(kind, with_probabilities=True)
    plain = predict(segmentor, batch(SIZE))[0]
    flipped = predict(segmentor, batch(SIZE, flip=True, flip_direction=direction))[0]
    not_flipped = predict(segmentor, batch(SIZE, flip=False, flip_direction=None))[0]
    dims = {'horizontal': [2], 'vertical': [1], 'diagonal': [1, 2]}[direction]
    turned = flipped.probabilities.data.flip(dims)
    torch.testing.assert_close(turned, plain.probabilities.data, atol=1e-5, rtol=0)
    assert same(plain, not_flipped)
    assert not torch.equal(flipped.probabilities.data, plain.probabilities.data)


def views(kind):
    """An image in three views: two sizes, one of them also mirrored."""
    one, two, three = (
        batch((64, 96, 3), original=(50, 80)),
        batch((96, 128, 3), original=(50, 80)),
        batch((96, 128, 3), original=(50, 80), flip=True, flip_direction='horizontal'),
    )
    three['inputs'] = [image.flip(2) for image in two['inputs']]
    if kind == 'given':
        for view in (one, two, three):
            view['data_samples'][0].set_metainfo({'tag_labels': [0, 1]})
    return [one, two, three]


@pytest.mark.parametrize('kind', ['cls_seg', 'direct', 'guided', 'given', 'views'])
def test_augmentation_gives_the_mean_over_views(build, kind):
    """As numpy has it, from the probabilities of each view alone."""
    changes = {'tags': 'given'} if kind == 'given' else {}
    kind_built = 'direct' if kind == 'given' else kind
    segmentor = build(kind_built, with_probabilities=True, **changes)
    count = segmentor.num_classes
    total = np.zeros((count, 50, 80))
    for view in views(kind):
        (sample,) = segmentor.test_step(view)
        planes = np.zeros((count, 50, 80))
        for label, plane in zip(
            sample.plane_labels, sample.probabilities.data.numpy(), strict=True
        ):
            planes[label] = plane
        total += planes / planes.sum(0) if kind == 'cls_seg' else planes
    mean = total / 3
    expected = mean.argmax(0)
    if kind != 'cls_seg':
        expected[mean.max(0) < 0.16] = 0
    if kind == 'views':
        masks = Masks(torch.from_numpy(expected), None, [])
        expected = segmentor.label_processor(masks, None).numpy()
    together = {key: [view[key] for view in views(kind)] for key in ('inputs', 'data_samples')}
    (merged,) = TrainingFreeTTA(segmentor).test_step(together)
    got = merged.pred_sem_seg.data[0].numpy()
    assert (got != expected).mean() < 0.002
    assert len(np.unique(got)) > 1


def test_augmentation_without_tags_and_background(build):
    without = {'background': (), 'background_threshold': 0, 'area_threshold': 0}
    tta = MODELS.build(
        {'type': 'mmtagclip.TrainingFreeTTA', 'module': build('direct', without, tags='given')}
    )
    for tags, labels in (([], [255]), ([2], [2])):
        data = [batch(SIZE, tag_labels=tags) for _ in range(2)]
        (merged,) = tta.test_step({key: [view[key] for view in data] for key in data[0]})
        assert merged.pred_sem_seg.data.unique().tolist() == labels


def test_a_view_that_is_smaller_than_a_window_is_refused_by_name(build):
    tta = MODELS.build({'type': 'mmtagclip.CLSSegTTA', 'module': build('direct')})
    data = [batch(SIZE), batch((24, 36, 3), original=SIZE[:2])]
    with pytest.raises(ValueError, match=r'^3\.jpg: the window of 32x32 .* image of 24x36'):
        tta.test_step({key: [view[key] for view in data] for key in data[0]})


# At the limits


def test_a_class_at_the_area_threshold_is_ruled_out():
    head = SegTextHead(['a', 'b'], ['sky'], area_threshold=0.25)
    won = torch.tensor([[0, 1, 2, 2, 2]])
    planes = torch.nn.functional.one_hot(won, 3).permute(2, 0, 1).float()
    assert head.rule_out(planes).argmax(0).tolist() == [[0, 0, 2, 2, 2]]
    more = torch.nn.functional.one_hot(torch.tensor([[0, 1, 1, 2, 2, 2, 2]]), 3)
    assert head.rule_out(more.permute(2, 0, 1).float())[1].sum() == 2


def test_a_pixel_at_the_background_threshold_keeps_its_class():
    head = SegTextHead(['a'], ['sky'], background_threshold=0.5)
    below = np.nextafter(np.float32(0.5), np.float32(0))
    planes = torch.tensor([[[0.0, 0.0, 0.5]], [[0.5, below, 0.1]]])
    assert head.labels(planes, [0, 1]).tolist() == [[1, 0, 0]]
    assert head.labels(planes, [0, 1], 0.25).tolist() == [[1, 1, 0]]


@pytest.mark.parametrize('with_background', [True, False])
def test_ties_are_won_as_by_the_argmax_over_all_planes(build, with_background, monkeypatch):
    """Between tags, and between a tag and the background, at which the first plane wins."""
    random = np.random.RandomState(0)
    steps = np.array([0, 0.25, 0.5, 0.75, 1], dtype=np.float32)
    maps = torch.from_numpy(steps[random.randint(0, 5, (3, 20, 30))])
    segmentor = build('cls_seg', tags='given', with_background=with_background)
    monkeypatch.setattr(segmentor, 'refined_cams', lambda *_: maps)
    data = batch((64, 96, 1), original=(20, 30), tag_labels=[0, 2, 3])
    streamed = predict(segmentor, data)[0].pred_sem_seg.data[0].numpy()
    planes = maps.numpy()
    if with_background:
        planes = np.concatenate([1 - planes.max(0, keepdims=True), planes])
    top = np.sort(planes, axis=0)
    assert (top[-1] == top[-2]).mean() > 0.2
    table = np.array([0, 1, 3, 4] if with_background else [0, 2, 3])
    assert np.array_equal(streamed, table[planes.argmax(0)])
