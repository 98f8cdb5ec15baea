"""ITACLIP's views, descriptions and closing of labels: plain twins, and what is refused."""

from copy import deepcopy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmtagclip.clip import Vocabulary
from mmtagclip.models import PAMR, ImageViews, LabelClosing, Masks, SegTextHead
from mmtagclip.registry import MODELS
from tests.models.segmentors.test_direct import BACKGROUND, CLASSES, LABELS, WORDS, batch

DESCRIPTIONS = [
    'A tame wolf, which barks.',
    'It purrs and hunts mice.',
    'It takes many people.',
    'A man, a woman or a child.',
]


@pytest.fixture(scope='module')
def config(encoder_config):
    return {
        'type': 'mmtagclip.DirectSegmentor',
        'encoder': {
            **encoder_config,
            'positions': 'bicubic_scale',
            'last_block': {'type': 'mmtagclip.ITACLIPLastBlock'},
        },
        'head': {
            'type': 'mmtagclip.SegTextHead',
            'classes': CLASSES,
            'background': BACKGROUND,
            'templates': ['a photo of a {}.', 'a {}.'],
            'background_threshold': 0.16,
            'area_threshold': 0.1,
            'descriptions': DESCRIPTIONS,
            'description_weight': 0.3,
        },
        'windows': {'type': 'mmtagclip.SlidingWindows', 'size': 64, 'stride': 32},
        'views': {'type': 'mmtagclip.ImageViews', 'weight': 0.7},
        'logit_processor': {'type': 'mmtagclip.PAMR'},
        'label_processor': {'type': 'mmtagclip.LabelClosing'},
    }


def build(config, head=None, **changes):
    cfg = {**deepcopy(config), **changes}
    cfg['head'].update(head or {})
    return MODELS.build(cfg)


@pytest.fixture(scope='module')
def segmentor(config):
    return build(config)


# Plain twins


def plain_grey(crop):
    """A crop (3, H, W) with three equal channels."""
    return (0.2989 * crop[0] + 0.587 * crop[1] + 0.114 * crop[2]).expand(3, -1, -1)


def plain_blur(crop, size=11, sigma=5.0):
    """A crop blurred by the Gaussian's definition, one offset after the other."""
    half = size // 2
    height, width = crop.shape[1:]
    padded = torch.from_numpy(
        np.pad(crop.double().numpy(), [(0, 0), (half, half), (half, half)], mode='reflect')
    )
    total, weights = torch.zeros(3, height, width, dtype=torch.float64), 0.0
    for dy in range(-half, half + 1):
        for dx in range(-half, half + 1):
            weight = np.exp(-(dx * dx + dy * dy) / (2 * sigma * sigma))
            total += (
                weight * padded[:, half + dy : half + dy + height, half + dx : half + dx + width]
            )
            weights += weight
    return (total / weights).float()


def plain_views(encoder, crop, text, weight):
    """Logits (K, h, w) of a crop: features of three views averaged, flips turned back."""

    def features(view):
        return encoder(view[None]).patches[0].reshape(view.shape[1] // 16, view.shape[2] // 16, -1)

    mean = sum(features(view) for view in (crop, plain_grey(crop), plain_blur(crop))) / 3
    vertical = features(crop.flip(1)).flip(0)
    horizontal = features(crop.flip(2)).flip(1)
    flipped = (vertical @ text.T + horizontal @ text.T) / 2
    return (weight * (mean @ text.T) + (1 - weight) * flipped).permute(2, 0, 1)


def plain_text(encoder, weight):
    """Features of the words, a description's added to each word of its class."""
    load = Vocabulary.load
    names = encoder.encode_names(load(WORDS), ['a photo of a {}.', 'a {}.'])
    described = encoder.encode_names(load(DESCRIPTIONS), ['{}'])
    rows = []
    for name, label in zip(names, LABELS, strict=True):
        rows.append((1 - weight) * name + weight * described[label - 1] if label else name)
    return torch.stack(rows)


def plain_closing(labels, size=3):
    """The greatest of each square, then the least; what lies outside does not count."""
    half = size // 2
    for choose in (np.max, np.min):
        new = np.empty_like(labels)
        for y in range(labels.shape[0]):
            for x in range(labels.shape[1]):
                new[y, x] = choose(
                    labels[max(y - half, 0) : y + half + 1, max(x - half, 0) : x + half + 1]
                )
        labels = new
    return labels


def plain_itaclip(segmentor, image, size, original):
    """Labels (H, W) of one image: all the published steps."""
    height, width = image.shape[1:]
    text = plain_text(segmentor.encoder, 0.3)
    total, count = torch.zeros(len(WORDS), height, width), torch.zeros(height, width)
    for y in sorted({min(y, height - 64) for y in range(0, height, 32)}):
        for x in sorted({min(x, width - 64) for x in range(0, width, 32)}):
            maps = plain_views(segmentor.encoder, image[:, y : y + 64, x : x + 64], text, 0.7)
            total[:, y : y + 64, x : x + 64] += F.interpolate(
                maps[None], size=(64, 64), mode='bilinear'
            )[0]
            count[y : y + 64, x : x + 64] += 1
    cosines = F.interpolate((total / count)[None], size=size, mode='bilinear')[0]
    p = (40.0 * PAMR()(cosines, original)).softmax(0)
    planes = torch.stack(
        [p[[i for i, one in enumerate(LABELS) if one == label]].amax(0) for label in range(5)]
    )
    won = [(planes.argmax(0) == label).sum().item() for label in range(5)]
    for label in range(1, 5):
        if won[label] <= 0.1 * sum(won[1:]):
            planes[label] = 0
    labels = planes.argmax(0)
    labels[planes.amax(0) < 0.16] = 0
    return torch.from_numpy(plain_closing(labels.numpy()))


@pytest.mark.parametrize('size', [(64, 64, 1), (100, 130, 14)])
def test_all_of_itaclip_agrees_with_the_plain_twin(segmentor, size):
    image = segmentor.data_preprocessor(batch(size))['inputs'][0]
    (sample,) = segmentor.test_step(batch(size, original=(53, 70)))
    plain = plain_itaclip(segmentor, image, (53, 70), sample.original)
    got = sample.pred_sem_seg.data[0]
    assert (got != plain).float().mean() < 0.001
    assert len(got.unique()) > 1
    once = segmentor.masks(segmentor.encode(image, sample.original))
    assert torch.equal(once.pred_sem_seg.data[0], got)


@pytest.mark.parametrize('weight', [0.0, 0.7, 1.0])
@pytest.mark.parametrize('size', [(16, 16), (48, 80)])
def test_views_agree_with_the_plain_twin(segmentor, weight, size):
    image = segmentor.data_preprocessor(batch((*size, 3)))['inputs'][0]
    text = segmentor.text
    got = ImageViews(weight)(image[None], lambda crops, _: segmentor.cosines(crops, text))[0]
    torch.testing.assert_close(
        got, plain_views(segmentor.encoder, image, text, weight), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize('size, sigma', [(1, 1.0), (5, 0.7), (11, 5.0)])
def test_each_view_is_what_its_name_says(size, sigma):
    crop, seen = torch.randn(3, 20, 33), []
    ImageViews(blur_size=size, blur_sigma=sigma)(
        crop[None], lambda crops, _: seen.append(crops[0]) or crops
    )
    expected = [crop, plain_grey(crop), plain_blur(crop, size, sigma), crop.flip(1), crop.flip(2)]
    for got, plain in zip(seen, expected, strict=True):
        torch.testing.assert_close(got, plain, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    'policy', ['SelfOnly', 'SCLIP', 'ClearCLIP', 'NACLIP', 'ITACLIP', 'SCCLIP']
)
def test_a_batch_of_windows_is_its_windows_alone(config, policy):
    encoder = {**config['encoder'], 'last_block': {'type': f'mmtagclip.{policy}LastBlock'}}
    segmentor = build(config, encoder=encoder)
    crops = torch.stack(
        [segmentor.data_preprocessor(batch((96, 112, seed)))['inputs'][0] for seed in range(4)]
    )
    together = segmentor.score(crops, segmentor.text)
    alone = torch.cat([segmentor.score(crop[None], segmentor.text) for crop in crops])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    assert (together - segmentor.cosines(crops, segmentor.text)).abs().max() > 1e-4


def test_four_images_together_are_four_images_alone(segmentor):
    sizes = [(64, 64, 1), (100, 130, 2), (64, 64, 3), (80, 96, 4)]
    together = segmentor.test_step(batch(*sizes))
    for sample, size in zip(together, sizes, strict=True):
        (alone,) = segmentor.test_step(batch(size))
        assert torch.equal(sample.pred_sem_seg.data, alone.pred_sem_seg.data)


def test_only_the_tags_classes_are_compared(config):
    (sample,) = build(config, tags='given').test_step(batch((64, 80, 2), tag_labels=[1, 3]))
    assert set(sample.pred_sem_seg.data.unique().tolist()) <= {0, 2, 4}


# Descriptions


@pytest.mark.parametrize('weight', [0.0, 0.3, 1.0])
def test_descriptions_are_added_to_each_word_of_a_class(config, segmentor, tmp_path, weight):
    path = tmp_path / 'descriptions.txt'
    path.write_text('# of my own\n' + '\n\n'.join(DESCRIPTIONS) + '\n', encoding='utf-8')
    text = build(config, {'descriptions': str(path), 'description_weight': weight}).text
    torch.testing.assert_close(text, plain_text(segmentor.encoder, weight), atol=1e-6, rtol=0)


def test_without_a_background_and_without_descriptions(config, segmentor):
    plain = {'background': (), 'background_threshold': 0, 'area_threshold': 0}
    first = plain_text(segmentor.encoder, 0.3)[len(BACKGROUND) :]
    torch.testing.assert_close(build(config, plain).text, first, atol=1e-6, rtol=0)
    without = build(config, {'descriptions': None}).text
    assert torch.equal(without, build(config, {'description_weight': 0.0}).text)


@pytest.mark.parametrize(
    'descriptions, error, message',
    [
        (
            DESCRIPTIONS[:3],
            ValueError,
            r'descriptions must hold one description for each of the 4 classes '
            r"\('dog' to 'person'\), not 3",
        ),
        (
            ['It barks.', 'It eats.', 'It rolls.', 'It eats.'],
            ValueError,
            "descriptions says the same of 'cat' and 'person': 'It eats.'",
        ),
        (['It barks.', 4, 'It rolls.', 'It eats.'], TypeError, '4 of type int'),
        (['It barks.', ' ', 'It rolls.', 'It eats.'], ValueError, 'empty'),
        ('no_such_file.txt', FileNotFoundError, 'no_such_file.txt'),
    ],
)
def test_bad_descriptions(descriptions, error, message):
    with pytest.raises(error, match=message):
        SegTextHead(CLASSES, descriptions=descriptions)


def test_a_file_of_too_few_descriptions_is_named(tmp_path):
    path = tmp_path / 'few.txt'
    path.write_text('It barks.\n')
    with pytest.raises(ValueError, match=r'few\.txt must hold one description for each'):
        SegTextHead(CLASSES, descriptions=str(path))


def test_a_description_that_is_too_long(config):
    long = ' '.join(['very'] * 90) + ' long'
    with pytest.raises(ValueError, match='more than 77 tokens'):
        build(config, {'descriptions': [*DESCRIPTIONS[:3], long]})


# Closing


def masks_of(labels):
    return Masks(labels, None, [])


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('size', [1, 3, 5])
def test_closing_agrees_with_the_loop_over_pixels(seed, size):
    random = np.random.RandomState(seed)
    shape = [(1, 1), (1, 9), (7, 2), (13, 17)][seed]
    labels = random.choice([0, 1, 2, 254, 300], shape)
    got = LabelClosing(size)(masks_of(torch.from_numpy(labels)), None)
    assert got.dtype == torch.int64
    assert np.array_equal(got.numpy(), plain_closing(labels, size))


def test_closing_fills_gaps_of_lower_labels_only():
    labels = torch.zeros(8, 6, dtype=torch.long)
    labels[2:5] = 2
    labels[2:5, 2] = torch.tensor([0, 1, 3])
    expected = labels.clone()
    expected[2:4, 2] = 2
    assert torch.equal(LabelClosing()(masks_of(labels), None), expected)


# What is refused


def test_bad_options(config):
    for weight in (-0.1, 1.1):
        with pytest.raises(ValueError, match=r'ImageViews needs weight in \[0, 1\]'):
            ImageViews(weight)
    for kwargs in ({'blur_size': 4}, {'blur_size': 0}, {'blur_sigma': 0}):
        with pytest.raises(ValueError, match='ImageViews needs an odd blur_size and blur_sigma'):
            ImageViews(**kwargs)
    with pytest.raises(ValueError, match='a blur of 33 pixels is too wide for windows of 16x64'):
        ImageViews(blur_size=33)(torch.rand(1, 3, 16, 64), lambda crops, _: crops)
    with pytest.raises(ValueError, match=r'description_weight in \[0, 1\], not 2'):
        SegTextHead(CLASSES, description_weight=2)
    for size in (0, 2):
        with pytest.raises(ValueError, match=f'LabelClosing needs an odd size, not {size}'):
            LabelClosing(size)
    with pytest.raises(ValueError, match='a patch_processor refines the cosines of one view'):
        build(
            config,
            patch_processor={'type': 'mmtagclip.MaskCLIPRefinement'},
            windows={'type': 'mmtagclip.WholeImage'},
        )
