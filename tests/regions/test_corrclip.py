"""CorrCLIP: the released code's arrays, a plain twin, and the answers to odd regions."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from mmtagclip.clip import (
    PADDING,
    Companions,
    DenseEncoder,
    DenseFeatures,
    Start,
    load_clip,
)
from mmtagclip.models import AffinitySource, CorrCLIPLastBlock, EncodedImage, TimmFeatures, Window
from mmtagclip.models.segmentors.companions import cut_companions
from mmtagclip.models.segmentors.windows import resize
from mmtagclip.regions import Affinity, corrclip
from mmtagclip.registry import MODELS
from tests import twins
from tests.conftest import normalised
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


class Nothing(AffinitySource):
    """Returns nothing."""

    def forward(self, pixels):
        return Affinity()


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


# Regions as they should be read: id 0 is none, wherever it is


def random_unit(seed, *size):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, 5, *size, generator=generator)


@torch.no_grad()
@pytest.mark.parametrize(
    'seed, size, grid, regions, none, merge',
    [
        (0, (64, 96), (8, 12), 6, 2, True),
        (1, (48, 32), (6, 4), 3, 0, True),
        (2, (64, 64), (5, 5), 40, 4, False),
        (3, (32, 48), (1, 1), 2, 1, True),
        (4, (16, 16), (3, 4), 1, 0, True),
        (5, (32, 32), (4, 4), 1, 1, False),
    ],
)
def test_agrees_with_the_plain_twin(clip, seed, size, grid, regions, none, merge):
    """Also without a region, with one for the whole image, and with regions below a patch."""
    features = random_unit(seed, *grid)
    features[:, 0] += 3 * merge  # alike enough that some are merged
    last_block = CorrCLIPLastBlock(Fixed(features), merge=merge)
    encoder = DenseEncoder(load_clip(clip), last_block)
    image = normalised(encoder, *size, seed)
    ids = region_map(*size, seed, regions, none)
    rows, columns = (np.arange(g) * s // g for g, s in zip(grid, size, strict=True))
    unit = F.normalize(features[0].flatten(1).T, dim=-1)
    layers = range(5, 10)
    expected = twins.corrclip(
        encoder.visual, image, unit, grid, ids[rows][:, columns], merge, layers
    )
    found = encoder(image, companions=Companions(torch.from_numpy(ids)[None]))
    assert found.grid == grid
    torch.testing.assert_close(found.patches[0], F.normalize(expected, dim=-1), **CLOSE)


@torch.no_grad()
def test_a_batch_of_images_with_different_numbers_of_regions(encoders, dino):
    encoder = encoders(dino)
    images = torch.cat([normalised(encoder, 64, 96, seed) for seed in range(4)])
    ids = torch.stack(
        [
            torch.from_numpy(region_map(64, 96, seed, *cells))
            for seed, cells in enumerate([(1, 1), (60, 5), (1, 0), (7, 2)])
        ]
    )
    together = encoder(images, companions=Companions(ids)).patches
    assert torch.isfinite(together).all()
    for one in range(4):
        alone = encoder(images[one : one + 1], companions=Companions(ids[one : one + 1]))
        torch.testing.assert_close(together[one], alone.patches[0], **CLOSE)
    # Riders change nothing for the other tokens.
    plain = encoders(dino, region_weight=0, spatial_weight=0)
    with_riders = encoder.walk(images, lambda *_: None, Companions(ids))
    without = plain.walk(images, lambda *_: None, Companions(ids))
    torch.testing.assert_close(with_riders.x, without.x, **CLOSE)
    assert without.riders is None


@torch.no_grad()
def test_an_id_of_no_region_is_none_in_every_window(encoders, dino):
    """The published way takes the lowest id instead, which may be a region's."""
    image = torch.zeros(1, 3, 64, 64)
    ids = torch.ones(1, 64, 64, dtype=torch.long)
    ids[..., 32:] = 2
    found = {}
    for lowest in (False, True):
        encoder = encoders(dino, merge=False, lowest_is_none=lowest)
        context = encoder.walk(image, lambda *_: None, Companions(ids))
        found[lowest] = context.prepared.index[0].reshape(8, 8)[0].tolist()
    assert found == {False: [1] * 4 + [2] * 4, True: [0] * 4 + [1] * 4}


@pytest.fixture(scope='module')
def sane(encoder_config, dino):
    """CorrCLIP on DINO, with map correction and without the bugs of the released code."""
    return MODELS.build(
        {
            'type': 'mmtagclip.DirectSegmentor',
            'encoder': {**encoder_config, 'last_block': CorrCLIPLastBlock(dino)},
            'head': {'type': 'mmtagclip.SegTextHead', 'classes': list('abcde')},
            'windows': {'type': 'mmtagclip.SlidingWindows', 'size': 64, 'stride': 32},
            'label_processor': {'type': 'mmtagclip.MapCorrection'},
        }
    )


HALVES = np.repeat([[3] * 48 + [5] * 48], 64, axis=0)
SMALL = HALVES.copy()
SMALL[9:12, 9:11] = 8  # between the pixels that DINO's patches read, 0, 8, 16, ...
ODD = {
    'none': np.zeros((64, 96), int),
    'one': np.full((64, 96), 7),
    'two': HALVES,
    'below a patch': SMALL,
    'one per pixel': np.arange(1, 64 * 96 + 1).reshape(64, 96),
}


@torch.no_grad()
@pytest.mark.parametrize('flat', [False, True])
def test_odd_regions_have_one_answer_each(sane, flat):
    image = torch.full((3, 64, 96), 0.3) if flat else network_input(64, 96, 64)
    cosines, before, after = {}, {}, {}
    for name, ids in ODD.items():
        encoded = sane.encode(image, regions=ids)
        cosines[name] = sane._cosines(encoded, sane.text)
        assert torch.isfinite(cosines[name]).all()
        before[name] = sane.segment(encoded, sane.names, None, None, False).labels
        after[name] = sane.masks(encoded).pred_sem_seg.data[0]
    # Without a region, and where each pixel is one, labels stay as they are.
    assert torch.equal(after['none'], before['none'])
    assert torch.equal(after['one per pixel'], before['one per pixel'])
    assert (after['one'] == before['one'].flatten().bincount().argmax()).all()
    for side in (slice(0, 48), slice(48, 96)):
        most = before['two'][:, side].flatten().bincount().argmax()
        assert (after['two'][:, side] == most).all()
    # No patch reads the small region: only its labels are corrected.
    assert torch.equal(cosines['below a patch'], cosines['two'])
    within = torch.from_numpy(SMALL == 8)
    most = before['two'][within].bincount().argmax()
    assert torch.equal(after['below a patch'], torch.where(within, most, after['two']))
    if not flat:  # where regions are alike, they are merged
        assert not torch.equal(cosines['one'], cosines['two'])
        assert not torch.equal(cosines['one'], cosines['none'])


def test_regions_of_another_size_are_refused(sane):
    image = network_input(64, 96, 64)
    with pytest.raises(ValueError, match='is 96x64 pixels, but its regions are 64x96'):
        sane.encode(image, regions=HALVES.T)
    with pytest.raises(ValueError, match='needs the regions of the image'):
        sane.encode(image)


@torch.no_grad()
def test_a_million_regions_have_no_more_tokens_than_there_are_patches(sane, monkeypatch):
    monkeypatch.setattr(sane.encoder.last_block, 'merge', False)
    ids = np.arange(1, 10**6 + 1).reshape(1000, 1000)
    encoded = sane.encode(network_input(64, 64, 64), size=(1000, 1000), regions=ids)
    assert torch.isfinite(sane._cosines(encoded, sane.text)).all()
    companions = cut_companions(encoded, [Window(0, 0, 64, 64)], True, None)
    context = sane.encoder.walk(encoded.image[None], lambda *_: None, companions)
    assert context.riders.shape[1] == 16


@torch.no_grad()
@pytest.mark.parametrize('ids', [torch.zeros(1, 64, 96).long(), torch.arange(64 * 96)[None]])
def test_an_image_of_one_colour_gives_finite_features(clip, ids):
    same = Fixed(torch.ones(1, 5, 8, 12))
    encoder = DenseEncoder(load_clip(clip), CorrCLIPLastBlock(same))
    image = torch.zeros(1, 3, 64, 96)
    found = encoder(image, companions=Companions(ids.reshape(1, 64, 96))).patches
    assert torch.isfinite(found).all()


def test_rows_in_parts_are_the_same(monkeypatch):
    last_block = CorrCLIPLastBlock(Fixed(None))
    unit = F.normalize(random_unit(1, 6, 5)[0].flatten(1).T, dim=-1)
    index, values = torch.arange(30) % 4, torch.randn(30, 3)
    whole = last_block.gather_values(unit, index, values)
    monkeypatch.setattr(corrclip, 'ENTRIES', 7 * 30)
    torch.testing.assert_close(last_block.gather_values(unit, index, values), whole, **CLOSE)


@pytest.mark.parametrize('seed', range(4))
def test_components_are_those_of_a_search(seed):
    joined = torch.rand(12, 12, generator=torch.Generator().manual_seed(seed)) < 0.1
    joined = joined | joined.T
    numbers, count = [-1] * 12, 0
    for node in range(12):
        if numbers[node] < 0:
            waiting = [node]
            while waiting:
                numbers[now := waiting.pop()] = count
                waiting += [
                    other for other in range(12) if joined[now, other] and numbers[other] < 0
                ]
            count += 1
    assert corrclip.components(joined).tolist() == numbers
    chain = torch.eye(12, dtype=torch.bool).roll(1, 0)
    chain[0, 11] = False
    assert corrclip.components(chain | chain.T).tolist() == [0] * 12


@pytest.mark.parametrize(
    'depth, layers', [(12, range(5, 10)), (24, range(10, 22)), (32, range(2, 30)), (9, range(2, 7))]
)
def test_layers_of_the_spatial_branch(depth, layers):
    last_block = CorrCLIPLastBlock(Fixed(None))
    last_block.set_depth(depth)
    assert last_block.block_inputs == tuple(layer + 1 for layer in layers)
    for shallow in range(1, 8):
        last_block.set_depth(shallow)
        assert all(1 <= layer < max(shallow, 2) for layer in last_block.block_inputs)
    assert CorrCLIPLastBlock(Fixed(None), spatial_layers=[3]).block_inputs == (4,)
    assert CorrCLIPLastBlock(Fixed(None), spatial_weight=0).block_inputs == ()


def test_features_of_the_whole_image_are_those_of_the_resized_map():
    """Resized to the input, unit length per pixel, cut, padded at the edge, resized again."""
    image, whole = torch.zeros(3, 70, 50), torch.randn(4, 5, 7)
    encoded = EncodedImage((33, 21), None, 'horizontal', image, None, None, whole=whole)
    windows = [Window(10, 3, 60, 40, (3, 4, 2, 2)), Window(0, 10, 60, 40, (3, 4, 2, 2))]
    found = cut_companions(encoded, windows, False, (9, 6)).features
    pixels = F.interpolate(whole.flip(2)[None], size=(70, 50), mode='bilinear')[0]
    pixels = F.normalize(pixels, dim=0)
    for one, (top, left, height, width, padding) in zip(found, windows, strict=True):
        crop = pixels[:, top : top + height, left : left + width]
        crop = F.pad(crop[None], padding, mode='replicate')
        torch.testing.assert_close(one, F.interpolate(crop, size=(9, 6), mode='bilinear')[0])


@pytest.mark.parametrize('flip, turned', [('vertical', [0]), ('diagonal', [0, 1]), (None, [])])
def test_regions_are_cut_where_the_windows_are(flip, turned):
    ids = np.random.RandomState(3).randint(0, 2**31 - 1, (31, 47))
    image = torch.zeros(3, 70, 50)
    encoded = EncodedImage((31, 47), None, flip, image, None, None, regions=ids)
    window = Window(10, 3, 60, 40, (3, 4, 2, 2))
    (found,) = cut_companions(encoded, [window], True, None).regions
    turned = np.flip(ids, turned)
    for y in (0, 1, 2, 30, 61, 62):
        for x in (0, 2, 3, 20, 42, 43):
            inside = 2 <= y < 62 and 3 <= x < 43
            there = turned[(y - 2 + 10) * 31 // 70, x * 47 // 50] if inside else PADDING
            assert found[y, x] == there


def test_views_flip_regions_with_the_image(encoder_config):
    """Where the regions say everything, the mean of all views has the regions' borders."""
    segmentor = MODELS.build(
        {
            'type': 'mmtagclip.DirectSegmentor',
            'encoder': {
                **encoder_config,
                'last_block': CorrCLIPLastBlock(Fixed(torch.ones(1, 5, 8, 12))),
            },
            'head': {'type': 'mmtagclip.SegTextHead', 'classes': ['a', 'b']},
            'views': {'type': 'mmtagclip.ImageViews'},
        }
    )
    seen = []
    segmentor.encoder.forward = lambda crops, companions: (
        seen.append(companions.regions)
        or DenseFeatures(torch.ones(1, 24, 64), None, (4, 6), crops, None, (4, 6))
    )
    ids = region_map(64, 96, 3)
    segmentor.encode(torch.zeros(3, 64, 96), regions=ids)
    expected = [ids, ids, ids, ids[::-1], ids[:, ::-1]]
    assert [one[0].tolist() for one in seen] == [one.tolist() for one in expected]


# What is refused


def test_what_the_last_block_refuses(clip, encoders, dino):
    encoder = encoders(dino)
    image = torch.zeros(1, 3, 64, 64)
    with pytest.raises(ValueError, match='needs the regions of the whole image: use it in a Dir'):
        encoder(image)
    with pytest.raises(ValueError, match=r'regions \(1, 9, 9\) do not fit images'):
        encoder(image, companions=Companions(torch.zeros(1, 9, 9)))
    with pytest.raises(ValueError, match='regions of 2 images are given for 1'):
        encoder(image, companions=Companions(torch.zeros(2, 64, 64)))
    whole = encoders(dino, whole_image=True)
    with pytest.raises(ValueError, match='needs the features of the whole image'):
        whole(image, companions=Companions(torch.zeros(1, 64, 64).long()))
    with pytest.raises(ValueError, match='Nothing must return features'):
        encoders(Nothing())(image, companions=Companions(torch.zeros(1, 64, 64)))
    with pytest.raises(ValueError, match='needs at least one spatial layer'):
        CorrCLIPLastBlock(dino, spatial_layers=())
    start = Start(torch.zeros(1, 16, 8), (4, 4), 0, image, Companions(torch.zeros(1, 64, 64)))
    with pytest.raises(ValueError, match='which this model does not have: set region_weight=0'):
        encoder.last_block.prepare(start)
