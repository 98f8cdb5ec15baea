"""What holds on every family: the library's own forward, batches, narrow types, every policy."""

from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from open_clip.model import resize_pos_embed
from torch import nn

from mmtagclip.clip import LAST_BLOCKS, Encoded, Names, OrdinaryLastBlock, Vocabulary
from mmtagclip.models import CWR, DMAR, TagCLIPHead
from tests.clip.towers.test_golden import encoder_of
from tests.golden.towers import published, recipe

KINDS = (*recipe.KINDS, *published.KINDS)
CONVOLUTIONS = ('convnext', 'convnext_d', 'rn', 'fastvit')
WITH_BLOCKS = [kind for kind in KINDS if kind not in CONVOLUTIONS]


@pytest.fixture(scope='module')
def encoders():
    """One encoder of each kind; leave it as it is."""
    return {kind: encoder_of(kind) for kind in KINDS}


def images_of(encoder, grid, count=2):
    """Coloured noise, a value for each patch and a little for each pixel."""
    generator = torch.Generator().manual_seed(grid[0] * 10 + grid[1])
    coarse = torch.randn(count, 3, *grid, generator=generator)
    images = coarse.repeat_interleave(encoder.patch_size, 2)
    images = images.repeat_interleave(encoder.patch_size, 3)
    return images + 0.3 * torch.randn(images.shape, generator=generator)


@pytest.mark.parametrize('kind', KINDS)
def test_global_features_are_the_librarys(encoders, kind):
    encoder = encoders[kind]
    images = images_of(encoder, encoder.native_grid)
    own = F.normalize(encoder.visual(images), dim=-1)
    torch.testing.assert_close(encoder.encode_class_token(images), own, atol=1e-5, rtol=0)
    features = encoder(images)
    torch.testing.assert_close(encoder.ordinary_class_token(features), own, atol=1e-5, rtol=0)
    assert features.patches.shape == (2, 16, encoder.patch_dim)
    assert encoder.dim == own.shape[1]
    if encoder.tower.pooled_by != 'class token':
        torch.testing.assert_close(features.class_token, own, atol=1e-5, rtol=0)


def library_at(kind, visual, size):
    """The library's tower for another size of images, its positions resized by the library."""
    visual = deepcopy(visual)
    grid = tuple(side // 16 for side in size)
    if kind == 'clipa':
        visual.grid_size = grid
        state = {'visual.positional_embedding': visual.positional_embedding}
        resize_pos_embed(state, SimpleNamespace(visual=visual))
        visual.positional_embedding = nn.Parameter(state['visual.positional_embedding'])
    elif kind == 'rn':  # the library resizes none of it
        pool = visual.attnpool
        mean, square = pool.positional_embedding[:1], pool.positional_embedding[1:]
        square = square.T.reshape(1, -1, 4, 4)
        grid = tuple(side // 32 for side in size)
        square = F.interpolate(square, size=grid, mode='bicubic', antialias=True)
        pool.positional_embedding = nn.Parameter(torch.cat([mean, square[0].flatten(1).T]))
    elif kind == 'dinotxt':
        visual.backbone.set_input_size(size)
    elif kind not in CONVOLUTIONS:
        visual.set_input_size(size)
    return visual


@pytest.mark.parametrize('grid', [(5, 5), (3, 7)])
@pytest.mark.parametrize('kind', KINDS)
def test_off_the_native_grid_too(encoders, kind, grid):
    encoder = encoders[kind]
    if encoder.positions != 'bicubic_antialias':  # which no published program does of these
        encoder = encoder_of(kind, positions='bicubic_antialias')
    images = images_of(encoder, grid)
    visual = library_at(kind, encoder.visual, tuple(images.shape[2:]))
    own = F.normalize(visual(images), dim=-1)
    torch.testing.assert_close(encoder.encode_class_token(images), own, atol=1e-5, rtol=0)
    # The tower itself is as before.
    native = images_of(encoder, encoder.native_grid)
    assert torch.isfinite(encoder(native).patches).all()


@pytest.mark.parametrize('kind', KINDS)
def test_a_batch_of_four_equals_four_images(encoders, kind):
    encoder = encoders[kind]
    images = images_of(encoder, (3, 5), count=4)
    layers = [(0, 1)] if encoder.num_blocks else []
    votes = bool(encoder.num_blocks)
    together = encoder(images, layers, votes=votes)
    seen = torch.rand(4, 15, generator=torch.Generator().manual_seed(1)) > 0.5
    masked = encoder.encode_class_token(images, seen)
    for index in range(4):
        one = slice(index, index + 1)
        alone = encoder(images[one], layers, votes=votes)
        for key in ('patches', 'class_token'):
            near = getattr(together[index], key)
            torch.testing.assert_close(near, getattr(alone, key), atol=1e-5, rtol=0)
        if votes:
            near = together.attention[index].mean((0, 1))
            torch.testing.assert_close(near, alone.attention.mean((0, 1)), atol=1e-5, rtol=0)
        own = encoder.encode_class_token(images[one], seen[one])
        torch.testing.assert_close(masked[one], own, atol=1e-5, rtol=0)


@pytest.mark.parametrize('kind', KINDS)
def test_bfloat16_stays_close(encoders, kind):
    narrow = encoder_of(kind, dtype='bfloat16')
    assert narrow.dtype == torch.bfloat16
    images = images_of(narrow, (3, 5))
    near, exact = narrow(images), encoders[kind](images)
    assert near.patches.dtype == near.last_input.dtype == torch.float32
    # The bound that docs/performance.md states.
    assert (near.patches * exact.patches).sum(-1).min() > 0.998
    assert (near.class_token * exact.class_token).sum(-1).min() > 0.998
    seen = torch.ones(2, 15, dtype=torch.bool)
    assert torch.isfinite(narrow.encode_class_token(images, seen)).all()


# What towers of few blocks need.
SHALLOW = {'SVCLastBlock': {'depth': 2}}


@pytest.mark.parametrize('kind', WITH_BLOCKS)
def test_every_policy_on_every_tower_with_blocks(kind):
    results = {}
    for name, policy in LAST_BLOCKS.items():
        encoder = encoder_of(kind, policy(**SHALLOW.get(name, {})))
        images = images_of(encoder, (3, 5))
        results[name] = encoder(images).patches
        alone = encoder(images[1:]).patches
        torch.testing.assert_close(results[name][1:], alone, atol=1e-5, rtol=0)
        assert torch.isfinite(results[name]).all()
    names = list(results)
    for index, name in enumerate(names):
        for other in names[:index]:
            assert (results[name] - results[other]).abs().max() > 1e-4, (name, other)


@pytest.mark.parametrize('kind', KINDS)
def test_dmar_and_cwr(encoders, kind):
    """Whole TagCLIP where there are blocks; without DMAR on convolutions."""
    encoder = encoders[kind]
    images = images_of(encoder, (4, 6))
    text = torch.randn(5, encoder.dim, generator=torch.Generator().manual_seed(0))
    names = Names(
        Vocabulary.load(['a', 'b', 'c']), Vocabulary.load(['d', 'e']), F.normalize(text, dim=-1)
    )
    encoder.clip.logit_scale = nn.Parameter(torch.tensor(2.0), requires_grad=False)
    dmar = None
    if encoder.num_blocks:
        dmar = DMAR()
        dmar.set_depth(encoder.num_blocks)
        expected = ((3,), 2) if kind == 'dinotxt' else ((1,), 1)
        assert (dmar.layers, dmar.votes) == expected
    head = TagCLIPHead(dmar=dmar, cwr=CWR(0.1))
    features = encoder(images, head.attention_layers, head.needs_votes)
    scores = head(Encoded(features, images, encoder), names)
    assert scores.scores.shape == (2, 3)
    assert scores.score_maps.shape == (2, 3, 4, 6)
    assert torch.isfinite(scores.scores).all()
    plain = TagCLIPHead(dmar=dmar)(Encoded(features, images, encoder), names)
    assert (plain.scores != scores.scores).any()


def test_a_mask_of_nothing_is_the_mean_of_all(encoders):
    """A mean of no patch is not defined; attention takes what it must not see all alike."""
    for kind in ('convnext', 'vit_gap', 'clipa'):
        encoder = encoders[kind]
        images = images_of(encoder, (3, 5))
        nothing = encoder.encode_class_token(images, torch.zeros(2, 15, dtype=torch.bool))
        torch.testing.assert_close(nothing, encoder.encode_class_token(images))


def test_what_makes_no_sense_is_refused(encoders):
    for kind in CONVOLUTIONS:
        with pytest.raises(ValueError, match=f'{kind} is convolutional and has no last block'):
            encoder_of(kind, OrdinaryLastBlock())
        images = images_of(encoders[kind], (2, 2))
        with pytest.raises(ValueError, match=f'{kind} is convolutional and has no attention maps'):
            encoders[kind](images, [(0,)])
    with pytest.raises(ValueError, match=r"convnext has no option 'pool_mlp'; it has none"):
        encoder_of('convnext', tower={'pool_mlp': True})
    with pytest.raises(ValueError, match=r"rn has no option 'x'; it has pool_positions, pool_mean"):
        encoder_of('rn', tower={'x': True})


@pytest.mark.parametrize('kind', ['convnext', 'fastvit', 'rn', 'siglip'])
def test_images_smaller_than_the_stride_are_refused(encoders, kind):
    encoder = encoders[kind]
    side = encoder.patch_size // 2
    with pytest.raises(ValueError, match=f'multiples of its patch size {encoder.patch_size}'):
        encoder(torch.zeros(1, 3, side, side))


def test_options_are_part_of_the_identity():
    plain = encoder_of('siglip').identity
    other = encoder_of('siglip', tower={'pool_mlp': False}).identity
    assert plain.keys() < other.keys()
    assert {key: other[key] for key in plain} == plain
    assert encoder_of('convnext').identity['last_block'] == 'none'
