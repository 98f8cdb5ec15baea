"""Last-block policies: the published arrays, plain twins, batches, other depths, bad input."""

from copy import deepcopy

import numpy as np
import open_clip
import pytest
import torch
from torch import nn

from mmtagclip.clip import (
    LAST_BLOCKS,
    DenseEncoder,
    ITACLIPLastBlock,
    NACLIPLastBlock,
    OrdinaryLastBlock,
    SCCLIPLastBlock,
    SelfOnlyLastBlock,
    SVCLastBlock,
    load_clip,
)
from mmtagclip.clip.last_blocks.sc_clip import find_outliers, local_outlier_factor
from tests import twins
from tests.conftest import normalised, picture
from tests.golden import GOLDEN as GOLDEN_DIR

GOLDEN = dict(np.load(GOLDEN_DIR / 'encoders.npz'))
# All that are registered: a new one is tested by being there, and needs a plain twin of its name.
POLICIES = {name.removesuffix('LastBlock').lower(): policy for name, policy in LAST_BLOCKS.items()}
# Published program and our policy.
PROGRAMS = {
    **{name: POLICIES[name] for name in ('sclip', 'clearclip', 'naclip', 'itaclip', 'scclip')},
    'scclip_fixed': SCCLIPLastBlock,
    'value_only': SelfOnlyLastBlock,
    'value_only_bare': lambda: SelfOnlyLastBlock(residual=False, mlp=False),
}
ARRAYS = [key for key in GOLDEN if key.split('/')[0] in PROGRAMS and GOLDEN[key].ndim == 2]


def raw_patches(encoder, images):
    """Patch features ``(B, N, D)`` before they are normalised, and the unit ones."""
    raw = []
    hook = encoder.visual.ln_post.register_forward_hook(
        lambda module, args, out: raw.append(out[:, 1:].float() @ encoder.visual.proj.float())
    )
    try:
        unit = encoder(images).patches
    finally:
        hook.remove()
    return raw[0], unit


@pytest.mark.parametrize('key', ARRAYS)
def test_published_arrays(clip, key):
    program, size, *variant = key.split('/')
    positions = 'bilinear' if variant else 'bicubic_scale'
    encoder = DenseEncoder(load_clip(clip), PROGRAMS[program](), positions=positions)
    images = normalised(encoder, *map(int, size.split('x')))
    raw, unit = raw_patches(encoder, images)
    np.testing.assert_allclose(raw[0].numpy(), GOLDEN[key], atol=1e-5, rtol=0)
    torch.testing.assert_close(unit, torch.nn.functional.normalize(raw, dim=-1))


@pytest.mark.parametrize('size', ['224x224x1', '128x192x5'])
def test_maskclip_is_the_value_only_policy_under_its_own_activation(clip, size):
    """Its program runs OpenAI's weights with GELU and another eps, and bicubic positions."""
    clip = deepcopy(clip)
    for module in clip.visual.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-6
        for name, child in list(module.named_children()):
            if type(child).__name__ == 'QuickGELU':
                setattr(module, name, nn.GELU())
    encoder = DenseEncoder(load_clip(clip), SelfOnlyLastBlock(), positions='bicubic')
    patches = encoder(normalised(encoder, *map(int, size.split('x')))).patches
    np.testing.assert_allclose(patches[0].numpy(), GOLDEN[f'maskclip/{size}'], atol=1e-5, rtol=0)


@pytest.mark.parametrize('key', ['scclip/224x224x1', 'scclip_fixed/128x192x5'])
def test_published_outliers(clip, key):
    encoder = DenseEncoder(load_clip(clip), positions='bicubic_scale')
    size = key.split('/')[1]
    patches = encoder(normalised(encoder, *map(int, size.split('x')))).last_input[:, 1:]
    found = find_outliers(patches)[0].nonzero().flatten().tolist()
    assert found == sorted(GOLDEN[f'{key}/outliers'].tolist())
    if f'{key}/lof' in GOLDEN:
        np.testing.assert_allclose(
            local_outlier_factor(patches)[0].numpy(), GOLDEN[f'{key}/lof'], atol=1e-5
        )


@torch.no_grad()
def plain(policy, visual, image, **options):
    """Unit tokens (1+N, D) of one image, all blocks by torch's own attention."""
    patch = visual.patch_size[0]
    grid = (image.shape[2] // patch, image.shape[3] // patch)
    x = twins.embed(visual, image, grid)
    outputs = []
    for layer in visual.transformer.resblocks[:-1]:
        x, _ = twins.block(layer, x)
        outputs.append(x[0])
    tokens = twins.last_block(policy, visual, x[0], outputs, grid, **options)
    tokens = visual.ln_post(tokens)
    if policy == 'radseg':
        tokens = twins.radseg_aggregation(tokens)
    return torch.nn.functional.normalize(tokens @ visual.proj, dim=-1)


def batch(count, height, width, seed=0, patch=16):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, patch * height, patch * width, generator=generator)


OPTIONS = {'itaclip': {'layers': (6, 7, 9)}}


@pytest.mark.parametrize('policy', POLICIES)
@pytest.mark.parametrize('grid', [(1, 1), (1, 5), (6, 2), (9, 5), (7, 11)])
def test_a_batch_of_four_equals_four_plain_twins(clip, policy, grid):
    encoder = DenseEncoder(load_clip(clip), POLICIES[policy]())
    images = batch(4, *grid)
    together = encoder(images)
    for index, image in enumerate(images):
        alone = encoder(image[None])
        torch.testing.assert_close(together.patches[index], alone.patches[0], atol=1e-5, rtol=0)
        tokens = plain(policy, encoder.visual, image[None], **OPTIONS.get(policy, {}))
        torch.testing.assert_close(together.patches[index], tokens[1:], atol=1e-5, rtol=0)
        torch.testing.assert_close(together.class_token[index], tokens[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize('policy', POLICIES)
def test_attention_statistics_stay_ordinary(clip, encoder, policy):
    images = batch(2, 4, 5)
    other = DenseEncoder(load_clip(clip), POLICIES[policy]())(images, [(8, 11)], votes=True)
    ordinary = encoder(images, [(8, 11)], votes=True)
    assert torch.equal(other.attention.votes, ordinary.attention.votes)
    assert torch.equal(other.attention.mean((8, 11)), ordinary.attention.mean((8, 11)))
    assert torch.equal(other.last_input, ordinary.last_input)


def untrained(patch_size, layers):
    """A narrow CLIP of random weights, of the depth, patches and native grid of a real one."""
    torch.manual_seed(0)
    return open_clip.CLIP(
        embed_dim=32,
        quick_gelu=True,
        vision_cfg={'image_size': 224, 'layers': layers, 'width': 128, 'patch_size': patch_size},
        text_cfg={'context_length': 16, 'vocab_size': 49408, 'width': 64, 'heads': 1, 'layers': 1},
    )


# What 24 blocks need; SC-CLIP's as its authors name them.
DEEP = {
    'itaclip': {'layers': (12, 15, 18)},
    'scclip': {
        'similarity_layer': 16,
        'output_layer': 6,
        'fusion_layers': tuple(range(8, 19)),
        'class_token_weight': 0.1,
    },
}


@pytest.mark.parametrize('policy', POLICIES)
@pytest.mark.parametrize('patch, layers', [(32, 12), (14, 24)], ids=['B/32', 'L/14'])
def test_other_patches_and_depths(policy, patch, layers):
    options = DEEP.get(policy, {}) if layers == 24 else {}
    encoder = DenseEncoder(load_clip(untrained(patch, layers)), POLICIES[policy](**options))
    plain_options = {
        {'class_token_weight': 'weight'}.get(key, key): value
        for key, value in (options or OPTIONS.get(policy, {})).items()
    }
    images = batch(2, 5, 9, patch=patch)
    for index, patches in enumerate(encoder(images).patches):
        tokens = plain(policy, encoder.visual, images[index : index + 1], **plain_options)
        torch.testing.assert_close(patches, tokens[1:], atol=1e-5, rtol=0)


@pytest.mark.parametrize('policy', POLICIES)
def test_narrow_dtypes_stay_close(clip, policy):
    exact = DenseEncoder(load_clip(clip), POLICIES[policy]())(batch(2, 5, 6)).patches
    narrow = DenseEncoder(load_clip(clip), POLICIES[policy](), dtype='bfloat16')
    near = narrow(batch(2, 5, 6)).patches
    assert near.dtype == torch.float32
    assert (near * exact).sum(-1).mean() > 0.98


def test_a_constant_image_gives_finite_features(clip):
    for policy in POLICIES.values():
        assert torch.isfinite(
            DenseEncoder(load_clip(clip), policy())(torch.zeros(1, 3, 64, 64)).patches
        ).all()
    assert not find_outliers(torch.ones(1, 40, 8)).any()


def test_positions_are_interpolated_as_asked(clip):
    values = {
        kind: DenseEncoder(load_clip(clip), positions=kind).tower.positional_embedding((8, 12))
        for kind in ('bilinear', 'bicubic', 'bicubic_scale')
    }
    assert len({value.shape for value in values.values()}) == 1
    assert (values['bilinear'] - values['bicubic']).abs().max() > 1e-3
    assert (values['bicubic_scale'] - values['bicubic']).abs().max() > 1e-3
    # Every size that the factors are made for comes out as asked.
    encoder = DenseEncoder(load_clip(clip), positions='bicubic_scale')
    for side in range(1, 90):
        assert len(encoder.tower.positional_embedding((side, 90 - side))) == 1 + side * (90 - side)


@pytest.mark.parametrize(
    ('depth', 'itaclip', 'scclip'),
    [
        (12, (6, 7, 9), (8, 3, tuple(range(3, 10)), 0.3)),
        (24, (12, 14, 18), (16, 6, tuple(range(8, 19)), 0.1)),
        (27, (14, 16, 20), (18, 7, (7, 9, 11, 14, 16, 18, 20), 0.1)),
        (3, (1,), (1, 1, (1,), 0.3)),
        (2, (0,), (0, 0, (0,), 0.3)),
    ],
)
def test_layers_by_depth(depth, itaclip, scclip):
    """Published for 12, SC-CLIP's for 24 too; the same shares of other depths."""
    block = ITACLIPLastBlock()
    block.set_depth(depth)
    assert block.block_inputs == itaclip
    block = SCCLIPLastBlock()
    block.set_depth(depth)
    names = ('similarity_layer', 'output_layer', 'fusion_layers', 'class_token_weight')
    assert tuple(getattr(block, name) for name in names) == scclip
    assert max(block.block_inputs) < depth
    given = SCCLIPLastBlock(similarity_layer=1, fusion_layers=[0, 1])
    given.set_depth(depth)
    assert (given.similarity_layer, given.fusion_layers) == (1, (0, 1))
    assert given.output_layer == scclip[1]


def test_bad_arguments(clip):
    with pytest.raises(ValueError, match=r"positions must be one of .*, not 'nearest'"):
        DenseEncoder(load_clip(clip), positions='nearest')
    with pytest.raises(
        ValueError,
        match=r'ITACLIPLastBlock needs the input of block 12, but .* '
        r'has only blocks 0 to 11',
    ):
        DenseEncoder(load_clip(clip), ITACLIPLastBlock(layers=(12,)))
    with pytest.raises(ValueError, match='SCCLIPLastBlock needs the input of block 17'):
        DenseEncoder(load_clip(clip), SCCLIPLastBlock(similarity_layer=16))
    with pytest.raises(ValueError, match='at least one layer'):
        ITACLIPLastBlock(layers=())
    with pytest.raises(ValueError, match='at least one fusion layer'):
        SCCLIPLastBlock(fusion_layers=())
    with pytest.raises(ValueError, match='the last 13 blocks, but the model has only 12'):
        DenseEncoder(load_clip(clip), SVCLastBlock(depth=13))
    with pytest.raises(ValueError, match='depth >= 1'):
        SVCLastBlock(depth=0)
    with pytest.raises(ValueError, match='std > 0'):
        NACLIPLastBlock(std=0)
    with pytest.raises(NotImplementedError):
        OrdinaryLastBlock.__base__().attend(None)


@pytest.mark.parametrize('policy', POLICIES.values())
def test_a_policy_is_printed_with_its_options(policy):
    """What is printed is part of an encoder's identity."""
    block = policy()
    printed = block.extra_repr()
    for key in ('residual', 'mlp'):
        assert f'{key}={getattr(block, key)}' in printed.split(', ')
    assert 'training' not in printed
    assert 'depth_options' not in printed
    assert '_' not in {option[0] for option in printed.split(', ')}


@pytest.mark.parametrize('needed', [True, False])
def test_pixels_for_policies_that_look_at_them(clip, needed):
    """They are the images before they were normalised; the published policies need none."""
    assert not any(policy.needs_pixels for policy in POLICIES.values())
    seen = []

    class Look(OrdinaryLastBlock):
        needs_pixels = needed

        def forward(self, context):
            seen.append(context.pixels)
            return super().forward(context)

    encoder = DenseEncoder(load_clip(clip), last_block=Look())
    encoder(normalised(encoder, 48, 64, 3).repeat(2, 1, 1, 1))
    if needed:
        expected = torch.from_numpy(picture(48, 64, 3)).permute(2, 0, 1).expand(2, -1, -1, -1)
        torch.testing.assert_close(seen[0], expected / 255)
    else:
        assert seen == [None]
