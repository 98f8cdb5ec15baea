"""Attention from another model's features: a plain twin, and what is refused."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F

from mmtagclip.clip import DenseEncoder, load_clip
from mmtagclip.models import Affinity, AffinitySource, ProxyLastBlock
from mmtagclip.registry import MODELS
from tests import twins
from tests.conftest import normalised
from tests.models.taggers.test_tagger import NAMES
from tests.models.taggers.test_tagger import batch as tagger_batch
from tests.regions.conftest import SMALL


@pytest.fixture(scope='module')
def source(weights):
    def source(patch=8):
        return {
            'type': 'mmtagclip.TimmFeatures',
            'model': 'vit_tiny_patch16_224',
            'checkpoint': str(weights[patch]),
            'kwargs': {**SMALL, 'patch_size': patch},
        }

    return source


class Fixed(AffinitySource):
    """Returns what it is given."""

    def __init__(self, features=None, regions=None):
        super().__init__()
        self.affinity = Affinity(features, regions)

    def forward(self, pixels):
        return self.affinity


@torch.no_grad()
def plain(visual, image, features, beta=1.2, gamma=3.0):
    """Unit patches (N', D) of one image on the grid of ``features`` (C', h', w'), step by step."""
    grid = (image.shape[2] // 16, image.shape[3] // 16)
    x = twins.embed(visual, image, grid)
    for layer in visual.transformer.resblocks[:-1]:
        x, _ = twins.block(layer, x)
    layer = visual.transformer.resblocks[-1]
    _, _, v = twins.heads(layer, x[0])
    size = features.shape[1:]
    flat = features.flatten(1).T
    similarity = torch.stack([F.cosine_similarity(one[None], flat) for one in flat])
    logits = gamma * (similarity - beta * similarity.mean())
    logits[logits < 0] = -torch.inf
    out = []
    for head in v:
        square = head[1:].T.reshape(1, -1, *grid)
        resized = F.interpolate(square, size=size, mode='bilinear', align_corners=False)
        out.append(logits.softmax(-1) @ resized[0].flatten(1).T)
    y = layer.attn.out_proj(torch.cat(out, dim=1))
    return F.normalize(visual.ln_post(y) @ visual.proj, dim=-1)


@pytest.mark.parametrize('size', [(64, 64, 1), (64, 96, 2), (96, 48, 3)])
@pytest.mark.parametrize('patch', [8, 14, 16])
def test_agrees_with_the_plain_twin_on_rectangles(clip, source, size, patch):
    encoder = DenseEncoder(load_clip(clip), ProxyLastBlock(source(patch), keep_grid=True))
    images = normalised(encoder, *size)
    own = encoder.last_block.source.vit
    pixels = (
        images * torch.tensor(encoder.std)[:, None, None]
        + torch.tensor(encoder.mean)[:, None, None]
    )
    grid = tuple(-(-side // patch) for side in size[:2])
    fitted = F.interpolate(pixels, size=[side * patch for side in grid], mode='bicubic')
    tokens = own.forward_features((fitted - 0.5) / 0.5)[0, 1:]
    expected = plain(encoder.visual, images, tokens.T.reshape(-1, *grid))
    features = encoder(images)
    assert features.grid == grid
    torch.testing.assert_close(features.patches[0], expected, atol=2e-5, rtol=0)


def test_a_batch_equals_single_images(clip, source):
    encoder = DenseEncoder(load_clip(clip), ProxyLastBlock(source(8), keep_grid=True))
    images = torch.cat([normalised(encoder, 64, 96, seed) for seed in range(4)])
    together = encoder(images).patches
    for index in range(4):
        torch.testing.assert_close(
            together[index], encoder(images[index : index + 1]).patches[0], atol=1e-5, rtol=0
        )


def test_back_on_clips_grid_it_serves_the_refinements(encoder_config, source):
    head = {
        'type': 'mmtagclip.TagCLIPHead',
        'cwr': {'type': 'mmtagclip.CWR', 'threshold': 0.1},
        'dmar': {'type': 'mmtagclip.DMAR', 'layers': (8, 9, 10)},
    }
    config = {
        'type': 'mmtagclip.TagCLIP',
        'head': head,
        'classes': NAMES,
        'templates': ['a photo of a {}.'],
        'encoder': {
            **encoder_config,
            'last_block': {'type': 'mmtagclip.ProxyLastBlock', 'source': source(8)},
        },
    }
    tagger = MODELS.build(deepcopy(config))
    (sample,) = tagger.test_step(tagger_batch((96, 80, 5)))
    assert torch.isfinite(sample.pred_score).all()
    identity = tagger.encoder.identity['last_block']
    assert 'beta=1.2, gamma=3.0, keep_grid=False) of weights' in identity

    config['encoder']['last_block']['keep_grid'] = True
    with pytest.raises(ValueError, match='a grid of 12x10 patches, but attention maps have 6x5'):
        MODELS.build(deepcopy(config)).test_step(tagger_batch((96, 80, 5)))
    del head['dmar']
    with pytest.raises(ValueError, match='features are on a grid of 12x10: set keep_grid=False'):
        MODELS.build(deepcopy(config)).test_step(tagger_batch((96, 80, 5)))


def encode(clip, source, **kwargs):
    encoder = DenseEncoder(load_clip(clip), ProxyLastBlock(source, keep_grid=True, **kwargs))
    return encoder(normalised(encoder, 64, 96, 1))


def test_regions_keep_patches_apart(clip):
    """With a region a patch, each gathers from itself alone; with two, evenly from its own."""
    itself = encode(
        clip,
        Fixed(
            regions=torch.arange(24)
            .reshape(1, 4, 6)
            .repeat_interleave(16, 1)
            .repeat_interleave(16, 2)
        ),
    )
    values = DenseEncoder(
        load_clip(clip),
        MODELS.build({'type': 'mmtagclip.SelfOnlyLastBlock', 'residual': False, 'mlp': False}),
    )
    expected = values(normalised(values, 64, 96, 1)).patches
    torch.testing.assert_close(itself.patches, expected, atol=1e-5, rtol=0)

    halves = torch.zeros(1, 64, 96, dtype=torch.long)
    halves[..., 48:] = 1
    patches = encode(clip, Fixed(regions=halves)).patches.reshape(4, 6, -1)
    torch.testing.assert_close(patches[:, :3], patches[:1, :1].expand(4, 3, -1))
    torch.testing.assert_close(patches[:, 3:], patches[:1, 3:4].expand(4, 3, -1))
    assert (patches[0, 0] - patches[0, 3]).abs().max() > 1e-4

    same = torch.ones(1, 5, 8, 12)
    both = encode(clip, Fixed(same, halves)).patches.reshape(8, 12, -1)
    assert torch.isfinite(both).all()
    torch.testing.assert_close(both[:, 6:], both[:1, 6:7].expand(8, 6, -1))


def test_an_image_of_one_colour_gives_finite_features(clip):
    assert torch.isfinite(encode(clip, Fixed(torch.ones(1, 5, 8, 12))).patches).all()


@pytest.mark.parametrize(
    'source, message',
    [
        (
            Fixed(torch.rand(1, 5, 12, 8)),
            'a grid of 12x8 for images of 64x96 pixels, which has another shape: rows come first',
        ),
        (Fixed(torch.rand(1, 96, 5)), r"must return features \(B, C', h', w'\) for a batch of 1"),
        (Fixed(torch.rand(2, 5, 8, 12)), 'for a batch of 1, not'),
        (Fixed(), 'Fixed returned neither features nor regions'),
        (Fixed(regions=torch.zeros(1, 96, 64)), r'regions \(1, 96, 64\) for images of 64x96'),
    ],
)
def test_sources_that_do_not_fit(clip, source, message):
    with pytest.raises(ValueError, match=message):
        encode(clip, source)
