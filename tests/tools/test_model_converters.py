"""A CLIP's image tower as a checkpoint of MMPretrain's VisionTransformer."""

import sys

import open_clip
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from safetensors.numpy import load_file

from mmtagclip.clip import DenseEncoder, load_clip
from tests.golden import weights
from tests.processes import ROOT, run_fresh

sys.path.insert(0, str(ROOT / 'tools' / 'model_converters'))
import clip2vit

TEXT = {'context_length': 77, 'vocab_size': 49408, 'width': 32, 'heads': 1, 'layers': 1}


def build(config, scope, **options):
    with DefaultScope.overwrite_default_scope(scope):
        vit = MODELS.build({**config, **options})
        vit.init_weights()
    vit.eval()
    return vit


def tower(quick_gelu, **vision):
    torch.manual_seed(0)
    clip = open_clip.CLIP(
        embed_dim=32,
        quick_gelu=quick_gelu,
        text_cfg=TEXT,
        vision_cfg={'image_size': 64, 'layers': 3, 'width': 64, 'patch_size': 16, **vision},
    )
    for weight in clip.parameters():  # norms, biases and layer scales are all at work
        weight.data += 0.05 * torch.randn_like(weight)
    return clip.eval()


@pytest.mark.parametrize('scope', ['mmpretrain', 'mmseg'])
@pytest.mark.parametrize(
    'clip',
    [
        tower(True, head_width=32),
        tower(False, no_ln_pre=True),
        tower(True, ls_init_value=0.1, patch_size=8),
    ],
    ids=['plain', 'no ln_pre', 'layer scale'],
)
@torch.no_grad()
def test_features_are_clips(clip, scope):
    vit = build(clip2vit.backbone(clip.visual), scope, out_type='raw')
    vit.load_state_dict(clip2vit.convert(clip.visual))
    images = torch.randn(2, 3, 64, 64)
    (tokens,) = vit(images)
    torch.testing.assert_close(
        tokens[:, 0] @ clip.visual.proj, clip.encode_image(images), rtol=1e-5, atol=1e-5
    )
    patches = clip.visual.forward_intermediates(images, indices=1, normalize_intermediates=True)
    torch.testing.assert_close(
        tokens[:, 1:].transpose(1, 2),
        patches['image_intermediates'][0].flatten(2),
        rtol=1e-5,
        atol=1e-5,
    )


@torch.no_grad()
def test_command(tmp_path):
    """From the demo's folder to a backbone, as the command prints it; also at other sizes."""
    process = run_fresh(
        ROOT / 'tools/model_converters/clip2vit.py',
        f'local-dir:{ROOT}/demo/model',
        '--out',
        tmp_path / 'new' / 'vit.pth',
    )
    assert process.returncode == 0, process.stderr
    config = Config.fromstring(process.stdout, '.py')
    vit = build(config.backbone, 'mmpretrain')
    encoder = DenseEncoder(load_clip(f'local-dir:{ROOT}/demo/model'))
    for size in ((96, 96), (64, 160)):
        images = torch.randn(2, 3, *size)
        feature = F.normalize(vit(images)[0] @ encoder.visual.proj, dim=-1)
        torch.testing.assert_close(
            feature, encoder.encode_class_token(images), rtol=1e-5, atol=1e-5
        )


def test_stand_in_weights_make_their_folder(tmp_path, monkeypatch):
    tiny = {'width': 64, 'layers': 1, 'text_layers': 1, 'vocab': 10}
    monkeypatch.setattr(weights, 'VIT_B_16', tiny)
    path = tmp_path / 'new' / 'a.safetensors'
    monkeypatch.setattr('sys.argv', ['weights.py', str(path)])
    weights.main()
    assert load_file(path).keys() == weights.openai_clip_state_dict(**tiny).keys()
    monkeypatch.setattr('sys.argv', ['weights.py'])
    with pytest.raises(SystemExit, match='usage: python weights'):
        weights.main()
