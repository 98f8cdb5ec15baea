"""Towers of every family against what the libraries and the published programs return."""

from copy import deepcopy
from functools import cache

import numpy as np
import pytest
import torch

from mmtagclip.clip import (
    DenseEncoder,
    LoadedCLIP,
    OrdinaryLastBlock,
    RADSegLastBlock,
    SelfOnlyLastBlock,
)
from tests.golden import GOLDEN
from tests.golden.towers import published, recipe

FOLDER = GOLDEN / 'towers'
# Of an array's largest value.
TOLERANCE = 3e-6
SIZES = {'': None, 'off_': (6, 5)}
CASES = [
    (kind, prefix)
    for kind in recipe.KINDS
    for prefix in SIZES
    if f'{prefix}global' in np.load(FOLDER / f'{kind}.npz')
]
# What is no option of the encoder but of the tower's family.
FCCLIP = {'pool_positions': True, 'pool_mean': False}


def seen(grid):
    """CWR's mask of the golden arrays."""
    mask = torch.zeros(grid, dtype=torch.bool)
    mask[0, 0] = True
    mask[1:, :2] = True
    return mask.flatten().expand(2, -1)


@cache
def clip_of(kind):
    if kind in published.KINDS:
        return published.build_clip(kind)
    clip = torch.nn.Module()
    clip.visual = recipe.build(kind)
    return clip


def encoder_of(kind, *policy, **options):
    clip = deepcopy(clip_of(kind))
    known = {'mean': (0.5, 0.5, 0.5), 'std': (0.5, 0.5, 0.5)}
    return DenseEncoder(LoadedCLIP(clip, None, kind, **known), *policy, **options)


class Case:
    """A tower, its images and golden arrays on one grid."""

    def __init__(self, kind, prefix=''):
        self.encoder = encoder_of(kind)
        self.tower = self.encoder.tower
        self.grid = SIZES[prefix] or self.tower.native_grid
        self.images = recipe.images(*(side * self.tower.stride for side in self.grid))
        arrays = np.load(FOLDER / f'{kind}.npz')
        self.golden = {
            key.removeprefix(prefix): arrays[key]
            for key in arrays
            if key.startswith('off_') == bool(prefix)
        }
        self.compared = set()

    def compare(self, key, value):
        self.compared.add(key)
        wanted = torch.from_numpy(self.golden[key])
        largest = float(wanted.abs().max())
        torch.testing.assert_close(value, wanted, atol=TOLERANCE * largest, rtol=0)


@pytest.mark.parametrize(('kind', 'prefix'), CASES)
def test_golden_arrays(kind, prefix, monkeypatch):
    """Nothing is normalised here; every array of the file is compared."""
    case = Case(kind, prefix)
    monkeypatch.setattr('mmtagclip.clip.encoder.F.normalize', lambda x, dim: x)
    encoder, grid, images = case.encoder, case.grid, case.images
    case.compare('global', encoder.encode_class_token(images))
    case.compare('masked_global', encoder.encode_class_token(images, seen(grid)))
    if encoder.num_blocks:
        case.compare('embed', encoder.embed(images)[0])
        layers = [(layer,) for layer in range(encoder.num_blocks)]
        for policy, key in ((OrdinaryLastBlock(), 'ordinary'), (SelfOnlyLastBlock(), 'value')):
            encoder.last_block = policy
            features = encoder(images, layers)
            case.compare(f'dense_{key}', features.patches)
        maps = torch.stack([features.attention.mean(one) for one in layers], dim=1)
        case.compare('attention', maps)
        last = case.tower.blocks(grid)[-1].ordinary(features.last_input)
        case.compare('tokens', case.tower.norm(last))
    else:
        features = encoder(images)
        case.compare('map', features.last_input.transpose(1, 2).unflatten(2, grid))
        case.compare('dense_plain' if kind == 'rn' else 'dense', features.patches)
    case.compare('global', encoder.ordinary_class_token(features))
    if kind == 'rn':
        fcclip = encoder_of(kind, tower=FCCLIP)
        case.compare('dense_positioned', fcclip(images).patches)
        case.compare('masked_global_fcclip', fcclip.encode_class_token(images, seen(grid)))
    assert case.compared == case.golden.keys()


@pytest.mark.parametrize('kind', ['siglip', 'pe', 'pe_g'])
def test_textregion(kind):
    """Each region of one patch, and the mean over the mask; TextRegion leaves out the MLP."""
    encoder = encoder_of(kind, tower={'pool_mlp': False})
    if kind != 'siglip':  # PE's own weights have none
        encoder.tower.trunk.head.bias.zero_()
    grid = encoder.native_grid
    images = recipe.images(*encoder.native_size)[:1]
    x, _ = encoder.embed(images)
    for block in encoder.tower.blocks(grid):
        x = block.ordinary(x)
    raw = encoder.tower.patches(encoder.tower.norm(x)[:, encoder.tower.lead :], grid)[0]
    wanted = torch.from_numpy(np.load(FOLDER / 'published.npz')[f'textregion_{kind}'])
    mean = torch.nn.functional.normalize(raw[seen(grid)[0]].mean(dim=0), dim=-1)
    torch.testing.assert_close(encoder(images).patches[0], wanted[:16], atol=3e-6, rtol=0)
    torch.testing.assert_close(mean, wanted[16], atol=3e-6, rtol=0)


@pytest.mark.parametrize('kind', ['convnext', 'convnext_d', 'rn'])
def test_fcclip(kind, monkeypatch):
    """Each region of one patch, and the mask's."""
    encoder = encoder_of(kind, tower=FCCLIP if kind == 'rn' else None)
    monkeypatch.setattr('mmtagclip.clip.encoder.F.normalize', lambda x, dim: x)
    images = recipe.images(*encoder.native_size)
    wanted = torch.from_numpy(np.load(FOLDER / 'published.npz')[f'fcclip_{kind}'])
    largest = float(wanted.abs().max())
    whole = encoder.encode_class_token(images, seen(encoder.native_grid))[:, None]
    got = torch.cat([encoder(images).patches, whole], dim=1)
    torch.testing.assert_close(got, wanted, atol=TOLERANCE * largest, rtol=0)


def test_radseg():
    """The released aggregation takes the mean similarity over the batch; this is of one image."""
    encoder = encoder_of('vit_cls', RADSegLastBlock())
    images = recipe.images(*encoder.native_size)
    golden = np.load(FOLDER / 'published.npz')
    out, grid = encoder.last_block(encoder.walk(images, lambda *args: None))
    tokens = encoder.tower.norm(out)
    gathered = encoder.last_block.gather(tokens, grid)[:, 1:]
    for key, got in (('radseg_scra_tokens', tokens), ('radseg_scga', gathered)):
        wanted = torch.from_numpy(golden[key])
        largest = float(wanted.abs().max())
        torch.testing.assert_close(got, wanted, atol=TOLERANCE * largest, rtol=0)
    assert torch.equal(RADSegLastBlock(aggregate=False).gather(tokens, grid), tokens)


@pytest.mark.parametrize(
    ('prefix', 'made', 'size'), [('tips_', (64, 64), (56, 56)), ('tips_off_', (96, 80), (84, 70))]
)
def test_tips(prefix, made, size, monkeypatch):
    """Its image tower: the ordinary patches, the value-only ones, and both class tokens."""
    golden = np.load(FOLDER / 'published.npz')
    images = recipe.images(*made)[:, :, : size[0], : size[1]]
    monkeypatch.setattr('mmtagclip.clip.encoder.F.normalize', lambda x, dim: x)
    loaded = LoadedCLIP(published.build_clip('tips'), None, 'TIPS', (0.0,) * 3, (1.0,) * 3)
    first = DenseEncoder(loaded)
    second = DenseEncoder(loaded, OrdinaryLastBlock(), tower={'global_token': 1})
    for key, got in {
        'embed': first.embed(images)[0],
        'class1': first.encode_class_token(images),
        'class2': second.encode_class_token(images),
        'patches': second(images).patches,
        'value': first(images).patches,
    }.items():
        wanted = torch.from_numpy(golden[f'{prefix}{key}'])
        largest = float(wanted.abs().max())
        torch.testing.assert_close(got, wanted, atol=TOLERANCE * largest, rtol=0)
    with pytest.raises(ValueError, match='CWR masks the row of the class token'):
        second.encode_class_token(images, torch.ones(2, 1, dtype=torch.bool))
    with pytest.raises(ValueError, match='global_token must be in 0 to 1, not 2'):
        DenseEncoder(loaded, tower={'global_token': 2})


@pytest.mark.parametrize('prefix', ['', 'off_'])
def test_dinotxt(prefix):
    """What follows its backbone, whose tokens the published program was given."""
    golden = np.load(FOLDER / 'published.npz')
    encoder = encoder_of('dinotxt')
    tower, grid = encoder.tower, SIZES[prefix] or encoder.native_grid
    x = torch.from_numpy(golden[f'dinotxt_{prefix}backbone'])
    *_, before, last = tower.blocks(grid)
    last_input = before.ordinary(x)
    tokens = tower.norm(last.ordinary(last_input))
    patches, whole = tower.read(tokens, grid)
    for key, got in {
        'patches': patches,
        'global': whole,
        # Plain CLIP's, of images that are already encoded.
        'global ': tower.global_feature(last_input, grid, None),
    }.items():
        wanted = torch.from_numpy(golden[f'dinotxt_{prefix}{key.strip()}'])
        largest = float(wanted.abs().max())
        torch.testing.assert_close(got, wanted, atol=TOLERANCE * largest, rtol=0)


def test_dinotxt_masks_the_class_token_and_the_mean():
    encoder = encoder_of('dinotxt')
    images = recipe.images(*encoder.native_size)
    mask = seen(encoder.native_grid)
    x, grid = encoder.embed(images)
    for block in encoder.tower.blocks(grid):
        x = block.ordinary(x, mask)
    t = encoder.tower.norm(x)
    inside = t[:, encoder.tower.lead :][:, mask[0]].mean(dim=1)
    expected = torch.nn.functional.normalize(torch.cat([t[:, 0], inside], dim=1), dim=-1)
    torch.testing.assert_close(encoder.encode_class_token(images, mask), expected)
