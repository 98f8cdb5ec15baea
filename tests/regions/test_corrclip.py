"""CorrCLIP: the released code's arrays, a plain twin, and the answers to odd regions."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from mmtagclip.clip import Companions, DenseEncoder, load_clip
from mmtagclip.models import AffinitySource, CorrCLIPLastBlock, EncodedImage, TimmFeatures, Window
from mmtagclip.models.segmentors.companions import cut_companions
from mmtagclip.models.segmentors.windows import resize
from mmtagclip.regions import Affinity
from mmtagclip.registry import MODELS
from tests.golden import GOLDEN
from tests.golden.regions.stand_ins import dino_state_dict, region_map
from tests.golden.weights import smooth_image

MEAN = torch.tensor([122.771, 116.746, 104.094])[:, None, None]
STD = torch.tensor([68.501, 66.632, 70.323])[:, None, None]
# Seed, number of cells and unsegmented cells of the golden maps of regions.
WINDOWS = {'v1': [(39, 9, 2), (33, 7, 0), (33, 2, 1)], 'v2': [(39, 9, 2), (43, 150, 12)]}
WORDS = [0, 0, 0, 1, 2, 3, 4, 5]


class Fixed(AffinitySource):
    """Returns what it is given, for each image."""

    def __init__(self, features):
        super().__init__()
        self.features = features

    def forward(self, pixels):
        return Affinity(self.features.expand(len(pixels), -1, -1, -1))


def vfm(seed, *shape):
    return torch.from_numpy(
        np.random.RandomState(seed).standard_normal((1, 24, *shape)).astype(np.float32)
    )


@pytest.fixture(scope='module')
def golden():
    return {
        version: {
            key: torch.from_numpy(value)
            for key, value in np.load(GOLDEN / 'regions' / f'corrclip_{version}.npz').items()
        }
        for version in ('v1', 'v2')
    }


@pytest.fixture(scope='module')
def dino(tmp_path_factory):
    """The released code's DINO, with rebuildable weights."""
    state = dino_state_dict(patch=8, grid=28)
    path = tmp_path_factory.mktemp('dino') / 'dino8.safetensors'
    save_file({key: torch.from_numpy(one) for key, one in state.items()}, path)
    return TimmFeatures(
        'vit_base_patch8_224.dino',
        checkpoint=path,
        kwargs={'embed_dim': 64, 'depth': 3, 'num_heads': 2},
        positions='bicubic_scale',
        tokens='q+k',
    )


@pytest.fixture(scope='module')
def encoders(clip, dino):
    def encoder(source, **kwargs):
        last_block = CorrCLIPLastBlock(source, **kwargs)
        return DenseEncoder(load_clip(clip), last_block, positions='bicubic_scale')

    return encoder


def network_input(height, width, side):
    """The released code's input ``(3, H, W)``."""
    scale = side / min(height, width)
    size = (int(width * scale + 0.5), int(height * scale + 0.5))
    image = cv2.resize(smooth_image(height, width, 5), size, interpolation=cv2.INTER_LINEAR)
    return (torch.from_numpy(image).permute(2, 0, 1).float() - MEAN) / STD


CLOSE = {'atol': 1e-5, 'rtol': 0}


def part(golden, start):
    return {key.removeprefix(start): one for key, one in golden.items() if key.startswith(start)}


def check_streams(encoder, context, expected):
    """Streams before the tower's norm, and features after the projection."""
    streams, grid = encoder.last_block(context)
    assert [weight for weight, _ in streams] == [1.0, 1.0, 0.5]
    for key, (_, one) in zip(('main', 'spatial', 'semantic'), streams, strict=True):
        torch.testing.assert_close(one[0, 1::4], expected[key], **CLOSE)
    features, _ = encoder.read(streams, grid)
    torch.testing.assert_close(features[0], expected['features'], **CLOSE)
    return F.normalize(features[0], dim=-1), grid


@torch.no_grad()
@pytest.mark.parametrize('number', range(3))
def test_a_window_of_the_first_version(encoders, dino, golden, number):
    seed, regions, unsegmented = WINDOWS['v1'][number]
    ids = torch.from_numpy(region_map(128, 192, seed, regions, unsegmented))
    encoder = encoders(dino, lowest_is_none=True)
    image = network_input(128, 192, 128)[None]
    expected = part(golden['v1'], f'window/{number}/')
    context = encoder.walk(image, lambda *_: None, Companions(ids[None]))
    found = context.prepared
    torch.testing.assert_close(found.unit[0, ::4], expected['dino'], **CLOSE)
    first = int(expected['merged'].min())
    merged = len(expected['merged'].unique()) > 2
    named = torch.where(found.index[0] > 0, found.index[0] + (9999 if merged else 0), first)
    assert torch.equal(named.int(), expected['merged'].flatten())
    attention = encoder.last_block.attention(found.unit[0], found.index[0], slice(0, None, 16))
    torch.testing.assert_close(attention, expected['attention'], **CLOSE)
    unit, grid = check_streams(encoder, context, expected)
    cosines = (unit @ golden['v1']['text'].T).T.unflatten(1, grid)
    cosines = resize(cosines[None], (128, 192))[0, :, ::8, ::8]
    torch.testing.assert_close(cosines, expected['cosines'], **CLOSE)
    # In a batch, every image is as it is alone.
    other = network_input(128, 192, 128)[None].flip(3)
    others = torch.from_numpy(region_map(128, 192, 40, 20, 3))
    both = encoder(torch.cat([other, image]), companions=Companions(torch.stack([others, ids])))
    torch.testing.assert_close(both.patches[1], unit, **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize('number', range(2))
def test_a_window_of_the_second_version(encoders, golden, number):
    """Its features, of the whole image, are read on twice CLIP's grid."""
    seed, regions, unsegmented = WINDOWS['v2'][number]
    expected = part(golden['v2'], f'window/{number}/')
    image = network_input(128, 192, 128)
    encoder = encoders(Fixed(vfm(51, 8, 12)), whole_image=True, lowest_is_none=True)
    encoded = EncodedImage(
        size=(128, 192),
        original=None,
        flip=None,
        image=image,
        tagging=None,
        features=None,
        regions=region_map(128, 192, seed, regions, unsegmented),
        whole=vfm(51, 8, 12)[0],
    )
    companions = cut_companions(encoded, [Window(0, 0, 128, 192)], True, (16, 24))
    context = encoder.walk(image[None], lambda *_: None, companions)
    torch.testing.assert_close(context.prepared.unit[0, ::4], expected['vfm'], **CLOSE)
    check_streams(encoder, context, expected)


def segmentor_of(encoder_config, golden, source, threshold, **kwargs):
    segmentor = MODELS.build(
        {
            'type': 'mmtagclip.DirectSegmentor',
            'encoder': {
                **encoder_config,
                'positions': 'bicubic_scale',
                'last_block': CorrCLIPLastBlock(source, lowest_is_none=True, **kwargs),
            },
            'head': {
                'type': 'mmtagclip.SegTextHead',
                'classes': list('abcde'),
                'background': list('xyz'),
                'background_threshold': threshold,
            },
            'windows': {
                'type': 'mmtagclip.SlidingWindows',
                'size': 224,
                'stride': 112,
                'pad_to': 56,
            },
            'label_processor': {'type': 'mmtagclip.MapCorrection', 'lowest_is_none': True},
        }
    )
    segmentor.text = golden['v1']['text']
    return segmentor


def check_pipeline(segmentor, expected, size, side, seed):
    image = network_input(*size, side)
    original = smooth_image(*size, 5)[..., ::-1].copy()
    encoded = segmentor.encode(image, original, regions=region_map(*size, seed))
    kept = segmentor._cosines(encoded, segmentor.text)
    again = segmentor._cosines(replace(encoded, features=None), segmentor.text)
    torch.testing.assert_close(kept, again, **CLOSE)
    cosines = resize(kept[None], size)[0, :, ::3, ::3]
    torch.testing.assert_close(cosines, expected['cosines'], **CLOSE)
    if 'labels_before' in expected:
        before = segmentor.segment(encoded, segmentor.names, None, None, False).labels
        assert torch.equal(before, expected['labels_before'].long())
    labels = segmentor.masks(encoded).pred_sem_seg.data[0]
    assert torch.equal(labels, expected['labels'].long())


@torch.no_grad()
@pytest.mark.parametrize(
    'size, side, seed, threshold', [((90, 131), 224, 41, 0.7), ((100, 60), 200, 42, 0)]
)
def test_the_whole_of_the_first_version(encoder_config, dino, golden, size, side, seed, threshold):
    """Windows, one of which is padded, cosines, labels, map correction."""
    segmentor = segmentor_of(encoder_config, golden, dino, threshold)
    expected = part(golden['v1'], f'pipeline/{size[0]}x{size[1]}/')
    check_pipeline(segmentor, expected, size, side, seed)


@torch.no_grad()
def test_the_whole_of_the_second_version(encoder_config, golden):
    segmentor = segmentor_of(encoder_config, golden, Fixed(vfm(52, 9, 13)), 0.3, whole_image=True)
    expected = part(golden['v2'], 'pipeline/90x131/single/')
    check_pipeline(segmentor, expected, (90, 131), 224, 41)
