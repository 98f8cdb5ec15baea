"""Features of timm's ViTs: published ones, a plain twin of their positions, and what is refused."""

import cv2
import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from mmtagclip.clip import DenseEncoder, LearntPooling, load_clip
from mmtagclip.models import AffinitySource, EncoderFeatures, ProxyLastBlock, TimmFeatures
from tests.clip.test_encoder import tiny
from tests.golden import GOLDEN
from tests.golden.weights import dino_state_dict, smooth_image
from tests.regions.conftest import SMALL, vit


@pytest.fixture(scope='module')
def dino(tmp_path_factory):
    """Arguments of a small DINO with rebuildable weights."""
    path = tmp_path_factory.mktemp('dino') / 'dino.safetensors'
    save_file({key: torch.from_numpy(one) for key, one in dino_state_dict().items()}, path)
    return {
        'model': 'vit_base_patch16_224.dino',
        'checkpoint': path,
        'kwargs': {'embed_dim': 64, 'depth': 3, 'num_heads': 2},
    }


def published_window():
    """Pixels (1, 3, 336, 336) as a published method shows them to DINO."""
    image = cv2.resize(smooth_image(97, 203, 5), (703, 336), interpolation=cv2.INTER_LINEAR)
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    x -= torch.tensor([122.771, 116.746, 104.094])[:, None, None]
    x /= torch.tensor([68.501, 66.632, 70.323])[:, None, None]
    x = F.interpolate(x, size=(336, 704), mode='bilinear')[..., :336]
    x *= torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
    return x + torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]


def test_dino_s_own_features(dino):
    """What the published program's DINO returned; timm's way of resizing gives others."""
    expected = torch.from_numpy(np.load(GOLDEN / 'dino.npz')['features'])
    pixels = published_window()
    own = TimmFeatures(**dino, positions='bicubic_scale')(pixels).features
    torch.testing.assert_close(own[0, :, ::4, ::4], expected, atol=5e-6, rtol=0)
    timm_s = TimmFeatures(**dino)(pixels).features
    assert (timm_s[0, :, ::4, ::4] - expected).abs().max() > 0.1


@pytest.mark.parametrize('positions', ['timm', 'bicubic_scale'])
def test_at_the_native_size_positions_are_as_trained(dino, positions):
    pixels = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    source = TimmFeatures(**dino, positions=positions)
    tokens = source.vit.forward_features((pixels - source.mean) / source.std)
    torch.testing.assert_close(
        source(pixels).features.flatten(2), tokens[:, 1:].transpose(1, 2), atol=1e-5, rtol=0
    )


def plain_positions(table, grid):
    """Positions (h, w, C) sampled from a table (h0, w0, C) by the formula, one by one."""
    a = -0.75

    def weight(x):
        x = abs(x)
        if x <= 1:
            return (a + 2) * x**3 - (a + 3) * x**2 + 1
        return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0

    out = torch.zeros(*grid, table.shape[-1])
    sides = table.shape[:2]
    for place in np.ndindex(*grid):
        at = [
            (i + 0.5) * side / (n + 0.1) - 0.5
            for i, side, n in zip(place, sides, grid, strict=True)
        ]
        first = [int(np.floor(one)) for one in at]
        for dy in range(-1, 3):
            for dx in range(-1, 3):
                y, x = first[0] + dy, first[1] + dx
                factor = weight(at[0] - y) * weight(at[1] - x)
                y, x = min(max(y, 0), sides[0] - 1), min(max(x, 0), sides[1] - 1)
                out[place] += factor * table[y, x]
    return out


@pytest.mark.parametrize(
    'name, kwargs',
    [
        ('vit_tiny_patch16_224', {}),
        ('vit_small_patch14_reg4_dinov2', {}),
        ('vit_tiny_patch16_224', {'reg_tokens': 2}),
        ('vit_tiny_patch16_224', {'class_token': False, 'global_pool': 'avg'}),
        ('vit_tiny_patch16_224', {'no_embed_class': True}),
    ],
)
@pytest.mark.parametrize('grid', [(5, 3), (4, 4), (9, 4), (1, 1)])
def test_the_plain_twin_of_positions(tmp_path, name, kwargs, grid):
    """A ViT that is built for the grid, with positions resized by the formula, says the same."""
    own = vit(8, name, img_size=32, **kwargs)
    torch.nn.init.normal_(own.pos_embed)
    save_file(own.state_dict(), tmp_path / 'own.safetensors')
    source = TimmFeatures(
        name,
        checkpoint=tmp_path / 'own.safetensors',
        kwargs={**SMALL, 'patch_size': 8, 'img_size': 32, **kwargs},
        positions='bicubic_scale',
    )
    fixed = vit(8, name, img_size=(8 * grid[0], 8 * grid[1]), **kwargs)
    state = own.state_dict()
    lead = state['pos_embed'].shape[1] - 16
    table = state['pos_embed'][0, lead:].reshape(4, 4, -1)
    if grid != (4, 4):
        table = plain_positions(table, grid)
    state['pos_embed'] = torch.cat([state['pos_embed'][:, :lead], table.reshape(1, -1, 48)], dim=1)
    fixed.load_state_dict(state)
    pixels = torch.rand(2, 3, 8 * grid[0], 8 * grid[1])
    with torch.no_grad():
        tokens = fixed.eval().forward_features((pixels - source.mean) / source.std)
    expected = tokens[:, fixed.num_prefix_tokens :].transpose(1, 2).unflatten(2, grid)
    torch.testing.assert_close(source(pixels).features, expected, atol=2e-5, rtol=0)


def test_positions_are_part_of_who_an_encoder_is(clip, dino):
    identities = {
        DenseEncoder(
            load_clip(clip), ProxyLastBlock(TimmFeatures(**dino, positions=positions))
        ).identity['last_block']
        for positions in ('timm', 'bicubic_scale')
    }
    assert len(identities) == 2


def test_register_tokens_are_left_out(tmp_path):
    own = vit(14, 'vit_small_patch14_reg4_dinov2', img_size=56)
    save_file(own.state_dict(), tmp_path / 'dinov2.safetensors')
    features = TimmFeatures(
        'vit_small_patch14_reg4_dinov2',
        checkpoint=tmp_path / 'dinov2.safetensors',
        kwargs={**SMALL, 'img_size': 56},
    )(torch.rand(2, 3, 56, 70)).features
    assert features.shape == (2, 48, 4, 5)


@pytest.mark.parametrize(
    'name',
    ['vit_base_patch16_radio_v3', 'vit_base_patch16_dinov3', 'vit_pe_spatial_base_patch16_512'],
)
def test_features_of_other_families(tmp_path, name):
    """RADIO, DINOv3 and PE-Spatial, on any grid, as timm itself computes them."""
    kwargs = {'embed_dim': 48, 'depth': 2, 'num_heads': 3}
    own = timm.create_model(name, num_classes=0, dynamic_img_size=True, **kwargs).eval()
    save_file(own.state_dict(), tmp_path / 'own.safetensors')
    source = TimmFeatures(
        name, checkpoint=tmp_path / 'own.safetensors', kwargs=kwargs, fit='nearest'
    )
    pixels = torch.rand(1, 3, 40, 55)
    found = source(pixels).features
    fitted = F.interpolate(pixels, size=(32, 48), mode='bilinear')  # 2.5 and 3.4 patches
    with torch.no_grad():
        tokens = own.forward_features((fitted - source.mean) / source.std)
    expected = tokens[:, own.num_prefix_tokens :].transpose(1, 2).unflatten(2, (2, 3))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize('positions', ['timm', 'bicubic_scale'])
@pytest.mark.parametrize('tokens', ['q+k', 'v'])
def test_queries_keys_and_values_of_the_last_block(dino, positions, tokens):
    source = TimmFeatures(**dino, positions=positions, tokens=tokens)
    seen = []
    source.vit.blocks[-1].attn.qkv.register_forward_hook(lambda *call: seen.append(call[2]))
    pixels = torch.rand(2, 3, 64, 48)
    found = source(pixels).features
    q, k, v = seen[0].chunk(3, dim=-1)
    expected = (q + k if tokens == 'q+k' else v)[:, 1:].transpose(1, 2).unflatten(2, (4, 3))
    torch.testing.assert_close(found, expected)
    assert source.extra_repr().endswith(f', {tokens}')


def test_bad_arguments(weights):
    name = 'vit_tiny_patch16_224'
    for kwargs in ({}, {'pretrained': True, 'checkpoint': weights[8]}):
        with pytest.raises(ValueError, match=f"for the weights of '{name}'"):
            TimmFeatures(name, **kwargs)
    with pytest.raises(ValueError, match='weights of another architecture than'):
        TimmFeatures(name, checkpoint=weights[8])
    with pytest.raises(ValueError, match="'resnet18' is not a ViT"):
        TimmFeatures('resnet18', checkpoint=weights[8])
    for key, known in (
        ('positions', 'timm or bicubic_scale'),
        ('tokens', 'last or q'),
        ('fit', 'up'),
    ):
        with pytest.raises(ValueError, match=f'{key} must be {known}'):
            TimmFeatures(name, checkpoint=weights[8], **{key: 'x'})
    with pytest.raises(ValueError, match="plain ViT, which 'eva02_tiny_patch14_224' is not"):
        TimmFeatures('eva02_tiny_patch14_224', checkpoint=weights[8], tokens='q+k')
    with pytest.raises(ValueError, match="'eva02_tiny_patch14_224' is not: use positions='timm'"):
        TimmFeatures('eva02_tiny_patch14_224', checkpoint=weights[8], positions='bicubic_scale')
    with pytest.raises(NotImplementedError):
        AffinitySource()(None)


def test_a_clip_s_own_patches_are_told_apart_by_what_makes_them():
    def text(gamma, name='CLIP'):
        pooling = LearntPooling(gamma=gamma, layer=0)
        encoder = DenseEncoder(load_clip(tiny()), pooling=pooling)
        for parameter in pooling.parameters():
            torch.nn.init.zeros_(parameter)
        encoder.name = name
        return EncoderFeatures(encoder).extra_repr()

    assert text(0.2) != text(0.7)
    assert text(0.2) == text(0.2, 'the same in another folder')
