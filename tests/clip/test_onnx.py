"""The exported encoder in onnxruntime against torch."""

import json

import numpy as np
import pytest
import torch

from mmtagclip import cli
from mmtagclip.clip import (
    LAST_BLOCKS,
    DenseEncoder,
    SCCLIPLastBlock,
    load_clip,
)
from mmtagclip.clip.onnx import DenseGraph, export_onnx
from mmtagclip.clip.pooling import LearntPooling
from tests.clip.towers.test_golden import encoder_of
from tests.conftest import normalised

pytest.importorskip('onnx', reason='the export needs the extra onnx')
onnxruntime = pytest.importorskip('onnxruntime', reason='pip install onnxruntime')


def session(path):
    return onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])


@pytest.fixture(
    scope='module',
    params=[policy for policy in LAST_BLOCKS.values() if policy is not SCCLIPLastBlock],
)
def both(request, clip, tmp_path_factory):
    """An encoder and its exported twin."""
    encoder = DenseEncoder(load_clip(clip), request.param())
    path = tmp_path_factory.mktemp('onnx') / 'encoder.onnx'
    export_onnx(encoder, path, (8, 9, 10))
    return encoder, session(path)


@pytest.mark.parametrize('size', [(80, 112), (16, 16), (16, 160), (160, 16), (224, 224)])
@pytest.mark.parametrize('batch', [1, 3])
def test_any_number_and_size_of_images(both, size, batch):
    encoder, exported = both
    images = torch.cat([normalised(encoder, *size, seed) for seed in range(batch)])
    features = encoder(images, [(8, 9, 10)], votes=True)
    patches, class_token, attention, votes = exported.run(None, {'images': images.numpy()})
    np.testing.assert_allclose(patches, features.patches, atol=1e-5)
    np.testing.assert_allclose(class_token, features.class_token, atol=1e-5)
    mean = features.attention.mean((8, 9, 10)).numpy()
    np.testing.assert_allclose(attention, mean, atol=1e-5)
    # A weight that is its map's mean but for round-off may be counted or not.
    assert np.mean(votes != features.attention.votes.numpy()) < 1e-3
    assert np.abs(votes - features.attention.votes.numpy()).max() <= 1


def test_a_pooling_is_in_the_graph(clip, tmp_path):
    encoder = DenseEncoder(load_clip(clip), pooling=LearntPooling(channels=4))
    export_onnx(encoder, tmp_path / 'encoder.onnx', (8,))
    images = normalised(encoder, 48, 112, 1)
    patches = session(tmp_path / 'encoder.onnx').run(['patches'], {'images': images.numpy()})[0]
    np.testing.assert_allclose(patches, encoder(images).patches, atol=1e-5)


def test_the_file_says_how_images_are_normalised(both):
    encoder, exported = both
    facts = exported.get_modelmeta().custom_metadata_map
    assert json.loads(facts['mean']) == pytest.approx(encoder.mean)
    assert json.loads(facts['layers']) == [8, 9, 10]
    assert json.loads(facts['patch_size']) == 16
    assert json.loads(facts['logit_scale']) == pytest.approx(encoder.logit_scale)


def test_what_cannot_be_exported_is_refused(encoder, clip):
    for layers in ((), (12,), (-1,)):
        with pytest.raises(ValueError, match='layers must be in 0 to 11'):
            DenseGraph(encoder, layers)
    with pytest.raises(ValueError, match='needs a float32 encoder'):
        DenseGraph(DenseEncoder(load_clip(clip), dtype='bfloat16'), (8,))


@pytest.mark.parametrize('kind', ['siglip', 'eva02', 'rn', 'convnext', 'tips', 'dinotxt'])
def test_other_families_are_refused(kind, tmp_path):
    message = f"{kind} can't be exported: its image tower is not open_clip's ViT"
    with pytest.raises(ValueError, match=message):
        export_onnx(encoder_of(kind), tmp_path / 'encoder.onnx', (1,))


def test_a_vit_pooled_by_the_mean(tmp_path):
    encoder = encoder_of('clipa')
    encoder.clip.logit_scale = torch.nn.Parameter(torch.tensor(2.0), requires_grad=False)
    export_onnx(encoder, tmp_path / 'encoder.onnx', (1,))
    images = torch.cat([normalised(encoder, 48, 80, seed) for seed in range(2)])
    features = encoder(images, [(1,)])
    got = session(tmp_path / 'encoder.onnx').run(None, {'images': images.numpy()})
    wanted = (features.patches, features.class_token, features.attention.mean((1,)))
    for one, other in zip(got, wanted, strict=False):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_last_blocks_that_no_graph_can_hold_are_refused(clip, tmp_path):
    path = tmp_path / 'encoder.onnx'
    encoder = DenseEncoder(load_clip(clip), SCCLIPLastBlock())
    with pytest.raises(ValueError, match=r"SCCLIPLastBlock can't be exported: .*quantile"):
        export_onnx(encoder, path, (8,))
    encoder.last_block.needs_pixels = True
    with pytest.raises(ValueError, match='SCCLIPLastBlock reads the images themselves'):
        export_onnx(encoder, path, (8,))
    assert not path.exists()


def test_the_command(tmp_path, capsys):
    path = tmp_path / 'encoder.onnx'
    assert cli.main(['export', str(path), '--model', 'tagclip_demo']) == 0
    assert 'mean of layers 8, 9, 10' in capsys.readouterr().out
    assert [one.name for one in session(path).get_outputs()] == [
        'patches',
        'class_token',
        'attention',
        'votes',
    ]
    assert cli.main(['export', str(path), '--model', 'coarse_demo']) == 2
    assert 'name the --layers to export' in capsys.readouterr().err
