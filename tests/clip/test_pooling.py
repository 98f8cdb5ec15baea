"""CLIP-DINOiser's pooling: the arrays of the released code, its file, and other CLIPs."""

import pytest
import torch
import torch.nn.functional as F

from mmtagclip.clip import LearntPooling, SelfOnlyLastBlock
from mmtagclip.clip.last_blocks import LastBlockContext
from mmtagclip.clip.pooling import average, resize_patches
from tests.golden import seeds

GOLDEN = seeds.arrays('clip_dinoiser')
KEYS = ('obj_proj.weight', 'obj_proj.bias', 'bkg_decoder.weight', 'bkg_decoder.bias')
STATE = {key: GOLDEN[key.replace('.', '_')] for key in KEYS}
CLIP = {'quick_gelu': False, 'positions': 'bicubic'}


@pytest.fixture(scope='module')
def released(tmp_path_factory):
    """A file in the layout of the released checkpoint."""
    path = tmp_path_factory.mktemp('dinoiser') / 'last.pt'
    torch.save({'epoch': 100, 'model_state_dict': STATE}, path)
    assert torch.load(path, weights_only=True)['epoch'] == 100
    return path


@pytest.fixture(scope='module')
def encoder(released):
    return seeds.encoder(SelfOnlyLastBlock(), pooling=LearntPooling(released, clip=None), **CLIP)


def image(encoder):
    """The image, with zeros at the right and below before it is normalised."""
    mean, std = (torch.tensor(one).view(3, 1, 1) for one in (encoder.mean, encoder.std))
    return (F.pad(GOLDEN['image'], (0, 4, 0, 5)) - mean) / std


def maps(features, grid):
    return features.transpose(1, 2).unflatten(2, grid)


def close(mine, released):
    torch.testing.assert_close(mine, released, atol=2e-5, rtol=0)


def test_released_features(encoder):
    features = encoder(image(encoder))
    assert encoder.pooling.block == 5
    close(maps(features.patches, (6, 8)), F.normalize(GOLDEN['pooled'], dim=1))
    close(maps(features.objectness[..., None], (6, 8)), GOLDEN['objectness'])
    raw, grid = encoder.raw_patches(image(encoder))
    close(maps(raw, grid), GOLDEN['pooled'])
    middle, grid = encoder.pooling_input(image(encoder))
    unit = encoder.pooling.embed(middle, grid)
    close(maps(unit @ unit.transpose(1, 2), grid), GOLDEN['correlations'])


def test_features_on_another_grid_are_resized(encoder):
    features = GOLDEN['maskclip_features'].flatten(2).transpose(1, 2)
    resized = resize_patches(features, (6, 8), (6, 7))
    pooled = average(resized, GOLDEN['other_correlations'].flatten(2), 0.2)
    close(maps(pooled, (6, 7)), GOLDEN['pooled_other'])
    context = LastBlockContext((), None, (), (6, 7), middle=torch.randn(1, 42, 24))
    pooled, grid, objectness = encoder.pooling(features, (6, 8), context)
    assert grid == (6, 7)
    assert pooled.shape == (1, 42, 16)
    assert objectness.shape == (1, 42)


def test_batches_and_single_images_agree(encoder):
    images = torch.cat([image(encoder), image(encoder).flip(-1)])
    both = encoder(images)
    for index in range(2):
        one = encoder(images[index : index + 1])
        close(both[index].objectness, one.objectness)
        close(both[index].patches, one.patches)
    assert torch.equal(type(both).cat([both[0], both[1]]).objectness, both.objectness)


def test_class_token_and_maps_are_those_without_pooling(encoder):
    plain = seeds.encoder(SelfOnlyLastBlock(), **CLIP)
    ours, theirs = (one(image(encoder), [(2, 3)]) for one in (encoder, plain))
    assert torch.equal(ours.class_token, theirs.class_token)
    assert torch.equal(ours.attention.mean((2, 3)), theirs.attention.mean((2, 3)))
    assert theirs.objectness is None
    assert 'pooling' not in plain.identity
    assert encoder.identity['pooling'].startswith('LearntPooling(block=5, gamma=0.2) of weights ')


def test_another_clip_is_refused(encoder, released, tmp_path):
    def load(path, **options):
        pooling = LearntPooling(path, **options)
        pooling.attach(encoder)
        return pooling

    with pytest.raises(ValueError, match=r'last.pt was trained with ViT-B-16 \(laion\), not with'):
        load(released, clip='ViT-B-16 (laion)')
    with pytest.raises(ValueError, match=r'trained with ViT-B-16 \(laion2b_s34b_b88k\), not with'):
        load(released)  # which is the published file
    started = load(released, clip='CLIP')
    assert started.channels == 10
    fresh = LearntPooling()
    fresh.attach(encoder)
    assert torch.equal(started.identity, fresh.identity)  # what is trained from it says its CLIP
    wide = {**STATE, 'obj_proj.weight': torch.zeros(10, 768, 3, 3)}
    torch.save({'model_state_dict': wide}, tmp_path / 'wide.pt')
    with pytest.raises(ValueError, match='a CLIP of width 768, not with CLIP, whose width is 24'):
        load(tmp_path / 'wide.pt', clip=None)
    torch.save({'obj_proj.weight': torch.zeros(1)}, tmp_path / 'other.pt')
    with pytest.raises(ValueError, match=r'holds no learnt pooling: it needs obj_proj\.weight'):
        load(tmp_path / 'other.pt')
    with pytest.raises(FileNotFoundError, match=r'no pooling at .*none\.pt: copy checkpoints/last'):
        load(tmp_path / 'none.pt')


def test_a_trained_file_says_its_clip_and_block(encoder, tmp_path):
    trained = LearntPooling(channels=4, objectness=True)
    trained.attach(encoder)
    state = {f'pooling.{key}': value for key, value in trained.state_dict().items()}
    path = tmp_path / 'iter_3.pth'
    torch.save({'state_dict': state, 'message_hub': LearntPooling}, path)  # a class is left out
    again = LearntPooling(path, clip='another')
    again.attach(encoder)
    assert again.channels == 4
    assert again.objectness
    assert again.digest == trained.digest
    with pytest.raises(
        ValueError, match='with block 5 of CLIP, not with block 4 of this CLIP: use'
    ):
        LearntPooling(path, layer=-4).attach(encoder)
    other = seeds.encoder(quick_gelu=True)
    with pytest.raises(
        ValueError, match='not with block 5 of this CLIP, which has other weights and architecture'
    ):
        LearntPooling(path).attach(other)


@pytest.mark.parametrize('layer', [-1, 7, 8, -9])
def test_block_that_it_can_not_read(encoder, layer):
    with pytest.raises(ValueError, match='CLIP has 8 blocks and layer is'):
        LearntPooling(layer=layer).attach(encoder)


def test_channels():
    with pytest.raises(ValueError, match='channels >= 1, not 0'):
        LearntPooling(channels=0)
