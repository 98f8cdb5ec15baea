"""SAM's attention: what the released Trident returned, a plain twin, and what is refused."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mmtagclip.regions import SAM
from mmtagclip.regions.sam import ENTRIES, SAMImage, block_attention, neighbours, scaled
from mmtagclip.registry import MODELS
from tests import twins
from tests.golden import GOLDEN
from tests.golden.regions.stand_ins import sam_state_dict
from tests.golden.weights import smooth_image
from tests.sam import SIZES, sam_config, save

TRIDENT = np.load(GOLDEN / 'regions' / 'trident.npz')


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    return sam_config(tmp_path_factory.mktemp('sam'))


@pytest.fixture(scope='module')
def sam(config):
    return MODELS.build(config)


def normal(seed, *shape):
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape)).float()


@pytest.mark.parametrize('factor', [0.0, 1.2, 3.0])
@pytest.mark.parametrize('refine', [True, False])
def test_published_thresholds(factor, refine):
    expected = torch.from_numpy(TRIDENT[f'threshold/{factor}/{refine}'])
    attention = normal(92, 2, 42, 42).softmax(-1)
    parts = attention.split(10, dim=1)
    found = neighbours(normal(91, 2, 42, 8), parts, factor, None if refine else 0.6)
    found = torch.cat(list(found))
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize('seed', range(4))
def test_thresholds_agree_with_the_loop(seed):
    values, attention = normal(seed, 3, 11, 4) + seed, normal(seed + 9, 3, 11, 11).softmax(-1)
    negative = 0.6 if seed % 2 else None
    parts = attention.split([11, 4, 1, 3][seed], dim=1)
    found = torch.cat(list(neighbours(values, parts, 0.8, negative, 0.95)))
    expected = twins.neighbours(values, attention, 0.8, negative, 0.95)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_a_patch_whose_attention_all_leaves_the_image_keeps_itself():
    attention = torch.zeros(1, 5, 5)
    attention[0, 0, 0] = 0.5
    found = neighbours(torch.ones(1, 5, 3), attention.split(2, dim=1))
    assert torch.equal(torch.cat(list(found)), torch.eye(5))


@pytest.fixture(scope='module')
def square(sam):
    """A square image, which has no padding."""
    with torch.no_grad():
        return sam.encode(smooth_image(80, 80, 3))


@torch.no_grad()
@pytest.mark.parametrize('entries', [1, 2 * 5 * 64**3])
def test_attention_in_parts_is_what_the_library_weighs_values_with(sam, square, entries):
    """All of it, against timm's own output."""
    assert square.grid == (64, 64)
    values, attention = sam.attention(square, entries)
    found, rows = [], []
    for part in attention:
        rows.append(part.shape[1] // 64)
        found.append((part @ values).transpose(0, 1).flatten(1))
    assert rows == ([1] * 64 if entries == 1 else [5] * 12 + [4])
    block = sam.image_encoder.vit.blocks[-1]
    expected = block.attn(block.norm1(square.last_input))[0].flatten(0, 1)
    torch.testing.assert_close(block.attn.proj(torch.cat(found)), expected, atol=2e-5, rtol=0)


@torch.no_grad()
def test_attention_is_cut_to_the_patches_of_the_image(sam, square):
    """Here to 17x23 of the 64x64, as if the others were padding."""
    values, attention = sam.attention(square)
    attention = torch.cat(list(attention), dim=1)
    inside = torch.arange(64**2).view(64, 64)[:17, :23].flatten()
    block = sam.image_encoder.vit.blocks[-1]
    some, parts = block_attention(block, square.last_input[0], (17, 23), 2 * 7 * 23 * 64**2)
    assert torch.equal(some, values[:, inside])
    parts = list(parts)
    assert [part.shape for part in parts] == [(2, n * 23, 17 * 23) for n in (7, 7, 3)]
    expected = attention[:, inside][:, :, inside]
    torch.testing.assert_close(torch.cat(parts, dim=1), expected, atol=1e-6, rtol=0)


@torch.no_grad()
def test_the_encoder_in_parts_is_the_librarys_own(sam):
    """Two images, as segment-anything may ask for them."""
    images = torch.randn(2, 3, 1024, 1024, generator=torch.Generator().manual_seed(1))
    expected = sam.image_encoder.vit.forward_features(images)
    torch.testing.assert_close(sam.image_encoder(images), expected, atol=2e-5, rtol=0)


def test_sizes_are_rounded_as_in_released_code():
    assert scaled((97, 203), 1024) == (489, 1024)
    assert scaled((112, 208), 1024) == (551, 1024)
    assert scaled((3, 4000), 1024) == (1, 1024)
    assert scaled((1, 9000), 1024) == (1, 1024)
    narrow = SAMImage((16, 2000), scaled((16, 2000), 1024), torch.zeros(0))
    assert narrow.grid == (1, 64)  # though no patch lies wholly in it


def test_refusals(config, tmp_path, monkeypatch):
    def build(**changes):
        return SAM(**{key: one for key, one in config.items() if key != 'type'} | changes)

    with pytest.raises(ValueError, match=r"model must be one of sam_vit_b, .*, not 'vit_b'"):
        build(model='vit_b')
    with pytest.raises(ValueError, match="either pretrained='sa1b' or checkpoint"):
        build(checkpoint=None)
    with pytest.raises(ValueError, match="either pretrained='sa1b' or checkpoint"):
        build(pretrained='sa1b')
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    with pytest.raises(
        FileNotFoundError, match=r'the weights of sam_vit_b \(sa1b\) are not on this'
    ):
        build(checkpoint=None, pretrained='sa1b')
    with pytest.raises(FileNotFoundError, match='no checkpoint at'):
        build(checkpoint=tmp_path / 'none.pth')
    with pytest.raises(ValueError, match='another architecture than sam_vit_b in its mask_decoder'):
        build(sizes={**SIZES, 'iou_hidden': 33})
    with pytest.raises(ValueError, match='holds other weights than those of sam_vit_b, 64 wide'):
        build(sizes={**SIZES, 'embed_dim': 32})
    wide = tmp_path / 'large.safetensors'
    save_file({'image_encoder.pos_embed': torch.zeros(1, 64, 64, 1024)}, wide)
    with pytest.raises(ValueError, match='those of sam_vit_l: set model to it'):
        build(checkpoint=wide)
    save_file({'x': torch.zeros(1)}, wide)
    with pytest.raises(ValueError, match='holds no weights of SAM'):
        build(checkpoint=wide)
    encoder_only = {k: v for k, v in sam_state_dict().items() if k.startswith('image_encoder.')}
    path = save(encoder_only, tmp_path / 'encoder.safetensors')
    with pytest.raises(ValueError, match='holds only the image encoder of sam_vit_b'):
        build(checkpoint=path)
    monkeypatch.setattr('mmtagclip.extras.find_spec', lambda name: None)
    with pytest.raises(ImportError, match=r"needs segment_anything: pip install -e '.\[sam\]'"):
        build()
    bare = build(checkpoint=path, masks=False)  # which needs no such package
    with pytest.raises(ValueError, match='set masks=True'):
        bare.library()


def test_how_much_attention_is_held_together():
    """16 MB on a CPU and 256 MB on a GPU, in float32."""
    assert {key: 4 * count for key, count in ENTRIES.items()} == {
        'cpu': 16 * 2**20,
        'other': 256 * 2**20,
    }
