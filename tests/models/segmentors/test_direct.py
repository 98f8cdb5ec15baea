"""Direct and tag-guided segmentation: plain twins, parts, and what is refused."""

from copy import deepcopy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmtagclip.clip import Vocabulary
from mmtagclip.models import PAMR, SegTextHead, SlidingWindows, WholeImage
from mmtagclip.registry import MODELS
from tests.conftest import normalised, picture

CLASSES = ['dog', ('cat', 'kitten'), 'bus', ('person', 'person in shirt', 'person in dress')]
BACKGROUND = ['sky', 'wall', 'tree']


@pytest.fixture(scope='module')
def config(encoder_config):
    return {
        'type': 'mmtagclip.DirectSegmentor',
        'encoder': {
            **encoder_config,
            'positions': 'bicubic_scale',
            'last_block': {'type': 'mmtagclip.SCLIPLastBlock'},
        },
        'head': {
            'type': 'mmtagclip.SegTextHead',
            'classes': CLASSES,
            'background': BACKGROUND,
            'templates': ['a photo of a {}.', 'a {}.'],
            'background_threshold': 0.16,
            'area_threshold': 0.1,
        },
        'windows': {'type': 'mmtagclip.SlidingWindows', 'size': 64, 'stride': 32},
    }


@pytest.fixture(scope='module')
def build(config):
    def build(head=None, **changes):
        cfg = {**deepcopy(config), **changes}
        cfg['head'].update(head or {})
        return MODELS.build(cfg)

    return build


@pytest.fixture(scope='module')
def segmentor(build):
    return build()


def batch(*sizes, original=None, **extra):
    """Pictures of these sizes; ``original`` is the size of the files that they came from."""
    images, samples = [], []
    for height, width, seed in sizes:
        image = picture(height, width, seed)[..., ::-1].copy()
        size = original or (height, width)
        samples.append(
            SegDataSample(
                metainfo={
                    'img_path': f'{seed}.jpg',
                    'ori_shape': size,
                    'original': picture(*size, seed)[..., ::-1],
                    **extra,
                }
            )
        )
        images.append(torch.from_numpy(image).permute(2, 0, 1))
    return {'inputs': images, 'data_samples': samples}


def plain_labels(segmentor, image, size, words, labels, threshold, area, scale, original=None):
    """Labels (H, W) of one image: a loop over windows, words, classes; all the published steps."""
    height, width = image.shape[1:]
    text = segmentor.encoder.encode_names(Vocabulary.load(words), ['a photo of a {}.', 'a {}.'])
    total, count = torch.zeros(len(words), height, width), torch.zeros(height, width)
    ys = sorted({min(y, height - 64) for y in range(0, height, 32)})
    xs = sorted({min(x, width - 64) for x in range(0, width, 32)})
    for y in ys:
        for x in xs:
            patches = segmentor.encoder(image[None, :, y : y + 64, x : x + 64]).patches[0]
            for word, feature in enumerate(text):
                one = (patches @ feature).reshape(1, 1, 4, 4)
                one = F.interpolate(one, size=(64, 64), mode='bilinear', align_corners=False)
                total[word, y : y + 64, x : x + 64] += one[0, 0]
            count[y : y + 64, x : x + 64] += 1
    cosines = F.interpolate((total / count)[None], size=size, mode='bilinear')[0]
    if original is not None:
        cosines = PAMR()(cosines, original)
    p = (scale * cosines).softmax(0)
    present = sorted(set(labels))
    planes = torch.stack(
        [
            torch.stack([p[i] for i in range(len(words)) if labels[i] == label]).amax(0)
            for label in present
        ]
    )
    if area:
        won = [(planes.argmax(0) == i).sum().item() for i in range(len(present))]
        for i, label in enumerate(present):
            if label and won[i] <= area * sum(won[1:]):
                planes[i] = 0
    out = torch.tensor(present)[planes.argmax(0)]
    out[planes.amax(0) < threshold] = 0
    return out


WORDS = [
    'sky',
    'wall',
    'tree',
    'dog',
    'cat',
    'kitten',
    'bus',
    'person',
    'person in shirt',
    'person in dress',
]
LABELS = [0, 0, 0, 1, 2, 2, 3, 4, 4, 4]


@pytest.mark.parametrize('size', [(64, 64, 1), (100, 130, 14), (100, 130, 12)])
@pytest.mark.parametrize('pamr', [False, True])
def test_agrees_with_the_plain_twin(build, size, pamr):
    segmentor = build(logit_processor={'type': 'mmtagclip.PAMR'} if pamr else None)
    data = batch(size, original=(53, 70))
    image = segmentor.data_preprocessor(batch(size))['inputs'][0]
    (sample,) = segmentor.test_step(data)
    plain = plain_labels(
        segmentor,
        image,
        (53, 70),
        WORDS,
        LABELS,
        0.16,
        0.1,
        40.0,
        sample.original if pamr else None,
    )
    got = sample.pred_sem_seg.data[0]
    assert got.shape == (53, 70)
    assert (got != plain).float().mean() < 0.001
    assert len(got.unique()) > 1


def test_only_the_tags_classes_and_the_background_are_compared(segmentor, build):
    given = build(tags='given')
    image = segmentor.data_preprocessor(batch((100, 130, 2)))['inputs'][0]
    (sample,) = given.test_step(batch((100, 130, 2), tag_labels=[1, 3]))
    rows = [0, 1, 2, 4, 5, 7, 8, 9]
    plain = plain_labels(
        segmentor,
        image,
        (100, 130),
        [WORDS[i] for i in rows],
        [LABELS[i] for i in rows],
        0.16,
        0.1,
        40.0,
    )
    got = sample.pred_sem_seg.data[0]
    assert (got != plain).float().mean() < 0.001
    assert set(got.unique().tolist()) <= {0, 2, 4}
    assert sample.tags == ['cat', 'person']
    (alone,) = given.test_step(batch((100, 130, 2), tag_labels=[]))
    assert (alone.pred_sem_seg.data == 0).all()


def test_without_a_background(build):
    plain = build(
        head={'background': (), 'background_threshold': 0, 'area_threshold': 0}, tags='given'
    )
    assert plain.dataset_meta['classes'] == ('dog', 'cat', 'bus', 'person')
    (one,) = plain.test_step(batch((64, 64, 1), tag_labels=[2]))
    assert (one.pred_sem_seg.data == 2).all()
    (none,) = plain.test_step(batch((64, 64, 1), tag_labels=[]))
    assert (none.pred_sem_seg.data == 255).all()


def test_tags_of_the_ground_truth(build):
    data = batch((64, 64, 1))
    mask = torch.zeros(1, 64, 64, dtype=torch.long)
    mask[0, :9], mask[0, 60:] = 3, 255
    data['data_samples'][0].gt_sem_seg = PixelData(data=mask)
    (sample,) = build(tags='ground_truth').test_step(data)
    assert sample.tag_labels == [2]


@pytest.fixture(scope='module')
def tagger_config():
    return {
        'type': 'mmtagclip.TagCLIP',
        'classes': [name if isinstance(name, str) else name[0] for name in CLASSES],
        'background': BACKGROUND,
        'templates': ['a photo of a {}.'],
        'head': {
            'type': 'mmtagclip.TagCLIPHead',
            'threshold': 0.5,
            'dmar': {'type': 'mmtagclip.DMAR', 'layers': (8, 9, 10)},
        },
    }


def test_own_tags_are_the_tagger_s_on_the_original_image(
    build, config, encoder_config, tagger_config
):
    """At its own size on the patch grid, whatever size the segmentor sees."""
    guided = build(tags='own', tagger={**tagger_config, 'encoder': encoder_config})
    (sample,) = guided.test_step(batch((100, 130, 2), original=(128, 192)))
    (tagged,) = guided.tagger.test_step({'inputs': batch((128, 192, 2))['inputs']})
    assert sample.tags == tagged.tags
    assert 0 < len(sample.tags) < len(CLASSES)
    first = sample.pred_sem_seg.data
    (again,) = build(tags='given').test_step(
        batch((100, 130, 2), original=(128, 192), tag_labels=sample.tag_labels)
    )
    assert torch.equal(first, again.pred_sem_seg.data)


@pytest.mark.parametrize('shared', [False, True])
def test_the_tagger_sees_the_original_image_in_rgb(build, encoder_config, tagger_config, shared):
    tagger = tagger_config if shared else {**tagger_config, 'encoder': encoder_config}
    guided = build(tags='own', tagger=tagger)
    seen = []
    patches = guided.tagger.encoder.visual.conv1
    patches.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    guided.test_step(batch((100, 130, 2), original=(60, 90)))
    expected = normalised(guided.tagger.encoder, 60, 90, 2)
    torch.testing.assert_close(seen[0], expected)
    assert (expected - expected.flip(1)).abs().max() > 0.1


def test_a_tagger_without_an_encoder_shares_the_segmentor_s(build, tagger_config):
    guided = build(tags='own', tagger=tagger_config)
    assert guided.tagger.encoder is guided.encoder
    assert guided.test_step(batch((64, 64, 1)))[0].tags


@pytest.mark.parametrize('policy', ['SelfOnly', 'ClearCLIP', 'NACLIP', 'ITACLIP', 'SCCLIP'])
def test_every_policy_segments(build, config, policy):
    encoder = {**config['encoder'], 'last_block': {'type': f'mmtagclip.{policy}LastBlock'}}
    (sample,) = build(encoder=encoder).test_step(batch((100, 130, 2)))
    assert sample.pred_sem_seg.data.shape == (1, 100, 130)


def test_a_post_processor_sees_probabilities(build):
    seen = []

    class Spy(torch.nn.Module):
        def forward(self, planes, image):
            seen.append((planes.clone(), image))
            return planes.flip(0)

    segmentor = build(post_processor=Spy(), head={'area_threshold': 0, 'background_threshold': 0})
    (sample,) = segmentor.test_step(batch((64, 64, 1)))
    planes, image = seen[0]
    assert planes.shape == (5, 64, 64)
    assert (planes.sum(0) <= 1 + 1e-5).all()
    assert np.array_equal(image, sample.original)
    assert torch.equal(sample.pred_sem_seg.data[0], planes.flip(0).argmax(0))


# Windows


def test_windows_side_by_side_and_an_image_of_one_window():
    image = torch.rand(3, 32, 64)
    seen = []
    got = SlidingWindows(32, 32)(image, lambda crops, windows: seen.append(crops) or crops)
    assert torch.equal(got, image)
    assert torch.equal(seen[0], torch.stack([image[..., :32], image[..., 32:]]))
    assert SlidingWindows(32, 1).starts(34) == [0, 1, 2]
    with pytest.raises(ValueError, match='larger than the image of 31x64'):
        SlidingWindows(32, 32)(image[:, 1:], lambda crops, windows: crops)
    with pytest.raises(ValueError, match='larger than the image of 32x31'):
        SlidingWindows(32, 32)(image[..., :31], lambda crops, windows: crops)


def test_windows_cover_the_image_and_its_edges():
    windows = SlidingWindows(size=32, stride=24)
    assert windows.starts(32) == [0]
    assert windows.starts(33) == [0, 1]
    assert windows.starts(80) == [0, 24, 48]
    assert windows.starts(81) == [0, 24, 48, 49]


@pytest.mark.parametrize('max_windows', [1, 3, 100])
def test_averaging_gives_back_what_is_the_same_in_all_windows(max_windows):
    image = torch.rand(3, 50, 70)
    got = SlidingWindows(32, 20, max_windows)(image, lambda crops, windows: crops)
    torch.testing.assert_close(got, image)


def test_the_whole_image_with_and_without_its_remainder(segmentor):
    image = torch.rand(3, 50, 70)
    got = WholeImage(16, cut=True)(image, lambda crops, windows: crops[..., ::16, ::16])
    expected = F.interpolate(image[None, :, :48:16, :64:16], size=(50, 70), mode='bilinear')[0]
    torch.testing.assert_close(got, expected)
    whole = WholeImage(16)(image[:, :48, :64], lambda crops, windows: crops)
    torch.testing.assert_close(whole, image[:, :48, :64])
    with pytest.raises(ValueError, match='multiples of its patch size 16'):
        WholeImage(16)(image, lambda crops, windows: segmentor.cosines(crops, segmentor.text))


# What is refused


def test_a_window_larger_than_the_image(segmentor):
    with pytest.raises(
        ValueError,
        match=r'^7\.jpg: the window of 64x64 pixels is larger than the '
        r'image of 48x100: resize',
    ):
        segmentor.test_step(batch((48, 100, 7)))


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (
            {'classes': [('desk', 'table'), ('table', 'dining table')]},
            "the word 'table' occurs twice, in 'desk' and 'table'",
        ),
        (
            {'classes': ['bed', 'dog'], 'background': ['wall', 'bed']},
            "the word 'bed' occurs twice, in the background and 'bed'",
        ),
        ({'classes': [('dog', 'dog')]}, "the word 'dog' occurs twice, in 'dog'"),
        ({'classes': []}, 'classes is empty'),
        ({'classes': ['dog'], 'background_threshold': 0.1}, 'background_threshold=0.1 needs words'),
        ({'classes': ['dog'], 'area_threshold': 0.1}, 'area_threshold=0.1 needs words'),
        ({'classes': ['dog'], 'area_threshold': 2}, r'area_threshold in \[0, 1\]'),
    ],
)
def test_bad_heads(kwargs, message):
    with pytest.raises(ValueError, match=message):
        SegTextHead(**kwargs)


def test_bad_windows():
    for kwargs in ({'stride': 0}, {'size': 32, 'stride': 48}, {'max_windows': 0}):
        with pytest.raises(ValueError, match='SlidingWindows needs'):
            SlidingWindows(**kwargs)


def test_bad_configs_and_samples(build, tagger_config):
    with pytest.raises(ValueError, match=r"tags must be one of own.*not 'mine'"):
        build(tags='mine')
    for changes in ({'tags': 'own'}, {'tags': 'given', 'tagger': tagger_config}):
        with pytest.raises(ValueError, match="tags='own' needs a tagger"):
            build(**changes)
    with pytest.raises(ValueError, match='the tagger has 3 classes, the segmentor 4'):
        build(tags='own', tagger={**tagger_config, 'classes': tagger_config['classes'][:3]})
    with pytest.raises(ValueError, match='was trained with mean='):
        build(data_preprocessor={'type': 'mmtagclip.CLIPDataPreprocessor', 'mean': [0.5] * 3})
    data = batch((64, 64, 1))
    del data['data_samples'][0].original
    with pytest.raises(ValueError, match='needs the original image'):
        build(logit_processor={'type': 'mmtagclip.PAMR'}).test_step(data)
    with pytest.raises(ValueError, match=r'needs mmtagclip\.LoadTags'):
        build(tags='given').test_step(batch((64, 64, 1)))
    with pytest.raises(NotImplementedError, match='DirectSegmentor is training-free'):
        build().loss([], [])


def test_nan_is_an_error(build):
    segmentor = build()
    segmentor.text[0, 0] = float('nan')
    with pytest.raises(ValueError, match=r'^1\.jpg: the features are not finite'):
        segmentor.test_step(batch((64, 64, 1)))


def test_an_unreadable_image_is_passed_over(segmentor):
    data = batch((64, 64, 1), (64, 64, 2))
    data['data_samples'][0].set_metainfo({'load_error': 'no image'})
    one, two = segmentor.test_step(data)
    assert 'pred_sem_seg' not in one
    assert 'pred_sem_seg' in two
