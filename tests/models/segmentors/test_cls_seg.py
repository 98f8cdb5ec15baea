"""CLS-SEG as a segmentor of MMSegmentation."""

import tracemalloc
from copy import deepcopy

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmtagclip.clip import Vocabulary
from mmtagclip.labels import BLOCK
from mmtagclip.models import CLSSegTTA, Tag
from mmtagclip.models.maps import resize_map
from mmtagclip.registry import MODELS
from tests import twins
from tests.conftest import normalised, picture

NAMES = ['dog', 'cat', 'bus', 'tree', 'traffic light']
BACKGROUND = ['sky', 'grass']
LAYERS = (4, 5, 6, 7, 8, 9, 10)


@pytest.fixture(scope='module')
def config(encoder_config):
    return {
        'type': 'mmtagclip.CLSSeg',
        'tagger': {
            'type': 'mmtagclip.TagCLIP',
            'encoder': encoder_config,
            'classes': NAMES,
            'background': BACKGROUND,
            'templates': ['a photo of a {}.'],
            'head': {
                'type': 'mmtagclip.TagCLIPHead',
                'threshold': 0.3,
                'dmar': {'type': 'mmtagclip.DMAR', 'layers': (8, 9, 10)},
                'cwr': {'type': 'mmtagclip.CWR', 'threshold': 0.1},
            },
        },
        'affinity': {
            'type': 'mmtagclip.AffinityRefinement',
            'layers': LAYERS,
            'box_threshold': 0.4,
        },
        'background_prompts': BACKGROUND,
    }


@pytest.fixture(scope='module')
def build(config):
    def build(**changes):
        return MODELS.build({**deepcopy(config), **changes})

    return build


@pytest.fixture(scope='module')
def segmentor(build):
    return build()


def batch(*sizes, **extra):
    """A batch as the data loader gives it; sizes that 16 divides need no resizing."""
    images, samples = [], []
    for height, width, seed in sizes:
        image = picture(height, width, seed)[..., ::-1].copy()
        images.append(torch.from_numpy(image).permute(2, 0, 1))
        samples.append(
            SegDataSample(
                metainfo={
                    'img_path': f'{seed}.jpg',
                    'ori_shape': (height, width),
                    'original': image,
                    **extra,
                }
            )
        )
    return {'inputs': images, 'data_samples': samples}


def plain_probabilities(segmentor, encoder, size, tags):
    """Background and tags, by the twins."""
    images = normalised(encoder, *size)
    _, _, maps, grid = twins.dense(encoder.visual, images)
    last_input = encoder(images).last_input
    text = torch.cat([segmentor.text[tags], segmentor.text[len(NAMES) :]])
    attention = maps[list(LAYERS)].mean(0)
    planes = []
    for row in range(len(tags)):
        raw = twins.cam(encoder.visual, encoder.logit_scale, last_input, text, row)
        one = twins.refine_cam(twins.scale_cam(twins.scale_cam(raw)), attention, grid, 0.4)
        planes.append(resize_map(one.reshape(grid).numpy(), size[:2]))
    planes = np.stack(planes)
    return np.concatenate([1 - planes.max(0, keepdims=True), planes])


def test_agrees_with_the_plain_twins(segmentor, encoder, build):
    size = (96, 80, 5)
    (sample,) = build(with_probabilities=True).test_step(batch(size))
    assert sample.tag_labels
    plain = plain_probabilities(segmentor, encoder, size, sample.tag_labels)
    np.testing.assert_allclose(sample.probabilities.data.numpy(), plain, atol=2e-3)
    expected = np.array([0, *(label + 1 for label in sample.tag_labels)])[plain.argmax(0)]
    got = sample.pred_sem_seg.data[0].numpy()
    assert (got != expected).mean() < 0.01
    assert sample.tags == [NAMES[label] for label in sample.tag_labels]


@pytest.mark.parametrize('last_block', [None, {'type': 'mmtagclip.SVCLastBlock'}])
@pytest.mark.parametrize('all_words', [True, False])
def test_surgery_maps(build, last_block, all_words):
    """Own tags and given ones, in batches; all classes compete, or only tags and background."""
    cam = {'type': 'mmtagclip.SurgeryCAM', 'last_block': last_block, 'all_words': all_words}
    own, given = build(cam=cam), build(cam=cam, tags='given')
    sizes = [(64, 96, 1), (96, 64, 2), (64, 96, 3)]
    samples = own.test_step(batch(*sizes))
    seen = []
    forward = given.cam.forward
    given.cam.forward = lambda features, text, *rest: (
        seen.append(text) or forward(features, text, *rest)
    )
    for size, sample in zip(sizes, samples, strict=True):
        labels = sample.tag_labels
        (alone,) = given.test_step(batch(size, tag_labels=labels))
        # A pixel at which two maps are equal but for round-off may have either label.
        assert (alone.pred_sem_seg.data != sample.pred_sem_seg.data).float().mean() < 0.002
        others = [label for label in range(len(NAMES)) if label not in labels]
        rows = [*labels, *range(len(NAMES), len(NAMES) + len(BACKGROUND)), *others * all_words]
        assert torch.equal(seen.pop(), own.text[rows])


@pytest.mark.parametrize('policy', ['SCLIP', 'ClearCLIP', 'NACLIP', 'ITACLIP', 'SCCLIP'])
def test_masks_of_given_tags_do_not_depend_on_the_policy(config, build, segmentor, policy):
    """CAMs and their spreading read an ordinary last block; only the tags are the policy's."""
    encoder = {
        **config['tagger']['encoder'],
        'last_block': {'type': f'mmtagclip.{policy}LastBlock'},
    }
    given = {'tags': 'given', 'tagger': {**config['tagger'], 'encoder': encoder}}
    (other,) = build(**given).test_step(batch((96, 80, 5), tag_labels=[0, 3]))
    (plain,) = build(tags='given').test_step(batch((96, 80, 5), tag_labels=[0, 3]))
    assert torch.equal(other.pred_sem_seg.data, plain.pred_sem_seg.data)


def test_tags_are_the_tagger_s(segmentor):
    sizes = [(64, 96, 1), (96, 64, 2), (64, 96, 3)]
    segmented = segmentor.test_step(batch(*sizes))
    tagged = segmentor.tagger.test_step({'inputs': batch(*sizes)['inputs']})
    assert [one.tags for one in segmented] == [one.tags for one in tagged]


def test_labels_without_probabilities_equal_those_with(build, segmentor):
    sizes = [(64, 96, 1), (96, 64, 2), (64, 96, 3)]
    for changes in ({}, {'with_background': False}, {'background_exponent': 3.0}):
        streaming = build(**changes).test_step(batch(*sizes))
        whole = build(with_probabilities=True, **changes).test_step(batch(*sizes))
        for one, other in zip(streaming, whole, strict=True):
            assert torch.equal(one.pred_sem_seg.data, other.pred_sem_seg.data)


@pytest.mark.parametrize(
    ('values', 'label'),
    [
        ((0.75, 0.75, 0.25), 1),  # of equal tags the first wins
        ((0.25, 0.75, 0.75), 3),
        ((0.5, 0.25, 0.0), 0),  # and the background, 1 - 0.5, wins against all
        ((0.5, 0.5, 0.5), 0),
        ((0.0, 0.0, 0.0), 0),
    ],
)
@pytest.mark.parametrize('with_background', [True, False])
def test_ties(build, monkeypatch, values, label, with_background):
    """Planes one after the other or together: the first of those that are equal wins."""
    tags = [0, 2, 4]
    maps = np.float32(values)[:, None, None].repeat(2, 1).repeat(3, 2)
    if not with_background:
        label = tags[int(np.argmax(values))]
    for with_probabilities in (False, True):
        segmentor = build(
            tags='given', with_background=with_background, with_probabilities=with_probabilities
        )
        monkeypatch.setattr(segmentor, 'refined_cams', lambda *_: torch.from_numpy(maps))
        (sample,) = segmentor.test_step(batch((32, 48, 1), tag_labels=tags))
        assert sample.pred_sem_seg.data.unique().tolist() == [label]


@pytest.mark.parametrize(
    ('tags', 'with_background', 'exponent'), [(20, True, 1.0), (7, True, 2.5), (3, False, 1.0)]
)
def test_masks_of_a_large_image_take_12_bytes_per_pixel(
    config, build, monkeypatch, tags, with_background, exponent
):
    """Masks are made in blocks of rows; they equal those of all planes together."""
    size = (2100, 1500)
    tagger = {**config['tagger'], 'classes': 'voc', 'background': ()}
    segmentor = build(
        tagger=tagger,
        background_prompts=BACKGROUND,
        tags='given',
        with_background=with_background,
        background_exponent=exponent,
    )
    maps = np.random.RandomState(tags).rand(tags, 30, 22).astype(np.float32)
    monkeypatch.setattr(segmentor, 'refined_cams', lambda *_: torch.from_numpy(maps))
    encoded = segmentor.encode(torch.zeros(3, 32, 48), size=size)
    labels = list(range(tags))
    tracemalloc.start()
    try:
        sample = segmentor.masks(encoded, tags=[Tag(label, None) for label in labels])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Blocks of a million pixels take a few arrays more, whatever the image's size.
    assert peak < 9.5 * size[0] * size[1] + 24 * BLOCK
    planes = np.stack([resize_map(one, size) for one in maps])
    if with_background:
        planes = np.concatenate([(1 - planes.max(0, keepdims=True)) ** exponent, planes])
    assert np.array_equal(sample.pred_sem_seg.data[0].numpy(), planes.argmax(0))


def test_mixed_sizes_equal_one_by_one(segmentor):
    sizes = [(64, 96, 1), (96, 64, 2), (64, 96, 3)]
    for sample, size in zip(segmentor.test_step(batch(*sizes)), sizes, strict=True):
        (alone,) = segmentor.test_step(batch(size))
        different = alone.pred_sem_seg.data != sample.pred_sem_seg.data
        assert different.float().mean() < 0.005


def test_the_image_is_encoded_once(segmentor, monkeypatch):
    """Of the first 11 blocks each runs once an image, besides those of the crops."""
    calls = []
    from mmtagclip.clip.block import Block

    original = Block.query_key_value
    monkeypatch.setattr(
        Block,
        'query_key_value',
        lambda block, x: calls.append(x.shape[1]) or original(block, x),
    )
    segmentor.test_step(batch((64, 96, 1)))
    tokens = 1 + 4 * 6
    assert calls.count(tokens) == 12
    assert set(calls) <= {tokens, 197}


def test_native_size_comes_out(segmentor):
    sample = SegDataSample(metainfo={'ori_shape': (61, 90), 'img_path': 'a.jpg'})
    image = torch.from_numpy(picture(64, 96, 1)).permute(2, 0, 1)
    (out,) = segmentor.test_step({'inputs': [image], 'data_samples': [sample]})
    assert out.pred_sem_seg.shape == (61, 90)
    assert out.pred_sem_seg.data.dtype == torch.int64


def test_given_tags(build):
    segmentor = build(tags='given')
    (sample,) = segmentor.test_step(batch((64, 96, 1), tag_labels=[3, 1, 3]))
    assert sample.tag_labels == [1, 3]
    assert set(sample.pred_sem_seg.data.unique().tolist()) <= {0, 2, 4}
    with pytest.raises(ValueError, match=r'1\.jpg has the tag 5, but there are 5 classes'):
        segmentor.test_step(batch((64, 96, 1), tag_labels=[5]))
    with pytest.raises(ValueError, match=r'needs mmtagclip\.LoadTags'):
        segmentor.test_step(batch((64, 96, 1)))


def test_an_image_without_tags_is_all_background(build):
    for changes, label in [({}, 0), ({'with_background': False}, 255)]:
        for more in (
            {},
            {
                'with_probabilities': True,
                'with_seg_logits': True,
                'post_processor': {'type': 'mmtagclip.PAMR', 'dilations': (1,)},
            },
        ):
            segmentor = build(tags='given', **changes, **more)
            (sample,) = segmentor.test_step(batch((64, 96, 1), tag_labels=[]))
            assert sample.pred_sem_seg.data.unique().tolist() == [label]


def test_ground_truth_tags(build):
    segmentor = build(tags='ground_truth')
    data = batch((64, 96, 1))
    mask = torch.zeros(1, 64, 96, dtype=torch.long)
    mask[:, :9], mask[:, 9:12], mask[:, 12:14] = 3, 255, 5
    data['data_samples'][0].gt_sem_seg = PixelData(data=mask)
    assert segmentor.test_step(data)[0].tag_labels == [2, 4]
    data['data_samples'][0].gt_sem_seg = PixelData(data=mask + 9)
    with pytest.raises(ValueError, match=r'1\.jpg has the mask value 8'):
        segmentor.test_step(data)
    with pytest.raises(ValueError, match="tags='ground_truth' needs a mask"):
        segmentor.test_step(batch((64, 96, 1)))


def test_a_mask_of_another_size_is_refused(segmentor):
    data = batch((64, 96, 1))
    data['data_samples'][0].gt_sem_seg = PixelData(data=torch.zeros(1, 60, 96, dtype=torch.long))
    data['data_samples'][0].set_metainfo({'seg_map_path': 'm.png'})
    with pytest.raises(ValueError, match=r'1\.jpg is 96x64 pixels, but its mask m\.png is 96x60'):
        segmentor.test_step(data)


def test_one_patch(segmentor):
    (sample,) = segmentor.test_step(batch((16, 16, 1)))
    assert sample.pred_sem_seg.shape == (16, 16)


@pytest.mark.parametrize('direction', ['horizontal', 'vertical'])
def test_a_flipped_image_gives_an_unflipped_mask(build, direction, monkeypatch):
    segmentor = build(tags='given')
    maps = np.random.RandomState(0).rand(2, 4, 6).astype(np.float32)
    monkeypatch.setattr(segmentor, 'refined_cams', lambda *_: torch.from_numpy(maps))
    (plain,) = segmentor.test_step(batch((64, 96, 1), tag_labels=[0, 2]))
    (flipped,) = segmentor.test_step(
        batch((64, 96, 1), tag_labels=[0, 2], flip=True, flip_direction=direction)
    )
    dim = 2 if direction == 'horizontal' else 1
    assert torch.equal(flipped.pred_sem_seg.data, plain.pred_sem_seg.data.flip(dim))
    assert not torch.equal(flipped.pred_sem_seg.data, plain.pred_sem_seg.data)


def test_tta_averages_over_augmentations(build):
    tta = CLSSegTTA(build(tags='given'))
    assert tta.module.with_seg_logits
    views = [batch((64, 96, 1), tag_labels=[0, 2]) for _ in range(2)]
    (merged,) = tta.test_step({key: [view[key] for view in views] for key in views[0]})
    (alone,) = tta.module.test_step(batch((64, 96, 1), tag_labels=[0, 2]))
    assert alone.seg_logits.shape[-2:] == (64, 96)
    assert (merged.pred_sem_seg.data.squeeze() == alone.pred_sem_seg.data.squeeze()).all()


@pytest.mark.parametrize(('with_background', 'label'), [(True, 0), (False, 255)])
def test_tta_of_an_image_without_tags(build, with_background, label):
    tta = CLSSegTTA(build(tags='given', with_background=with_background))
    views = [batch((64, 96, 1), tag_labels=[]) for _ in range(2)]
    (merged,) = tta.test_step({key: [view[key] for view in views] for key in views[0]})
    assert merged.pred_sem_seg.data.unique().tolist() == [label]


def test_classes_merge_into_groups(build):
    segmentor = build(
        with_background=False,
        label_map=[0, 0, 1, 2, 1],
        groups=['animal', 'outdoor', 'plant'],
        with_seg_logits=True,
        tags='given',
    )
    assert segmentor.num_classes == 3
    (sample,) = segmentor.test_step(batch((64, 96, 1), tag_labels=[0, 1, 4]))
    assert set(sample.pred_sem_seg.data.unique().tolist()) <= {0, 1}
    assert sample.seg_logits.shape == (64, 96)
    assert sample.seg_logits.data.shape[0] == 3


def test_built_in_groups_of_coco_stuff(build, config):
    tagger = {**config['tagger'], 'classes': 'cocostuff', 'background': ()}
    segmentor = build(
        tagger=tagger,
        background_prompts='cocostuff_clsseg_background',
        with_background=False,
        label_map='cocostuff_groups',
        groups='cocostuff27',
    )
    assert segmentor.num_classes == 27
    assert segmentor.dataset_meta['classes'] == Vocabulary.load('cocostuff27').names


@pytest.mark.parametrize('kind', ['PAMR', 'DenseCRF'])
def test_post_processors(build, kind):
    if kind == 'DenseCRF':
        pytest.importorskip('pydensecrf')
    segmentor = build(
        post_processor={'type': f'mmtagclip.{kind}'}, tags='given', with_probabilities=True
    )
    data = batch((64, 96, 1), tag_labels=[0, 2])
    (sample,) = segmentor.test_step(data)
    (plain,) = build(tags='given', with_probabilities=True).test_step(
        batch((64, 96, 1), tag_labels=[0, 2])
    )
    expected = segmentor.post_processor(plain.probabilities.data, data['data_samples'][0].original)
    torch.testing.assert_close(sample.probabilities.data, expected)
    del data['data_samples'][0].original
    with pytest.raises(ValueError, match='needs the original image'):
        segmentor.test_step(data)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'tags': 'mine'}, "not 'mine'"),
        ({'prompts': ['dog', 'cat']}, 'prompts has 2 entries for the 5 classes'),
        (
            {'label_map': [0, 1], 'groups': ['a', 'b'], 'with_background': False},
            'label_map has 2 entries',
        ),
        (
            {'label_map': [0, 0, 1, 1, 2], 'groups': ['a', 'b'], 'with_background': False},
            'labels 0 to 2, but there are 2 groups',
        ),
        ({'label_map': [0, 0, 1, 1, 2], 'groups': ['a', 'b', 'c']}, 'excludes a background'),
        ({'label_map': [0, 0, 1, 1, 2], 'with_background': False}, 'belong together'),
        ({'background_prompts': ['dog']}, r"more than once: \['dog'\]"),
    ],
)
def test_bad_configs(build, changes, message):
    with pytest.raises(ValueError, match=message):
        build(**changes)


def test_loss_says_that_there_is_nothing_to_train(segmentor):
    with pytest.raises(NotImplementedError, match='training-free'):
        segmentor(**batch((64, 96, 1)), mode='loss')


def test_nan_is_an_error_that_names_the_image(build):
    segmentor = build(tags='given')
    segmentor.tagger.encoder.visual.ln_post.bias.data[0] = float('nan')
    with pytest.raises(ValueError, match=r'^1\.jpg: the features .* not finite'):
        segmentor.test_step(batch((64, 96, 1), tag_labels=[0]))
