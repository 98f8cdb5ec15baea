"""Another encoder in a model, from Python and from the command line."""

import json

import pytest
from mmengine.config import Config

from mmtagclip import cli
from mmtagclip.apis import TagInferencer
from mmtagclip.apis.model_zoo import load_config, set_encoder
from tests.processes import ROOT

SCENE = ROOT / 'demo/data/JPEGImages/000040.jpg'
OWN = {
    'type': 'mmtagclip.TagCLIP',
    'encoder': {'type': 'mmtagclip.CLIPEncoder', 'model': 'a', 'pretrained': 'b', 'mean': [0] * 3},
    'head': {
        'type': 'mmtagclip.TagCLIPHead',
        'dmar': {'type': 'mmtagclip.DMAR', 'layers': (8, 9, 10), 'votes': 4},
        'cwr': {'type': 'mmtagclip.CWR', 'threshold': 0.3},
    },
    'data_preprocessor': {'type': 'mmtagclip.CLIPDataPreprocessor', 'std': [1] * 3},
}


def changed(encoder):
    config = Config({'model': OWN})
    set_encoder(config, encoder)
    return config.model


@pytest.mark.parametrize(
    ('encoder', 'expected'),
    [
        ('ViT-B-16-SigLIP2:webli', {'model': 'ViT-B-16-SigLIP2', 'pretrained': 'webli'}),
        ('ViT-B-16-SigLIP2', {'model': 'ViT-B-16-SigLIP2', 'pretrained': 'webli'}),
        ('ViT-B-32', {'model': 'ViT-B-32'}),  # has several tags: a file must be given
        ('local-dir:/there', {'model': 'local-dir:/there'}),
    ],
)
def test_what_belongs_to_the_old_model_is_dropped(encoder, expected):
    model = changed(encoder)
    assert model.encoder == {'type': 'mmtagclip.CLIPEncoder', **expected}
    assert model.head.dmar == {'type': 'mmtagclip.DMAR'}
    assert model.head.cwr == OWN['head']['cwr']
    assert model.data_preprocessor == {'type': 'mmtagclip.CLIPDataPreprocessor'}


def test_convolutions_are_tagged_without_dmar():
    assert 'dmar' not in changed('RN50:openai').head
    assert changed('RN50:openai').head.cwr == OWN['head']['cwr']


def test_all_encoders_of_a_config_are_changed():
    config = Config({'model': {'type': 'X', 'encoder': {}, 'tagger': {'encoder': {'model': 'y'}}}})
    set_encoder(config, 'local-dir:/there')
    assert config.model.encoder.model == config.model.tagger.encoder.model == 'local-dir:/there'


@pytest.mark.parametrize(
    ('encoder', 'message'),
    [
        ('ViT-B-99', "no architecture 'ViT-B-99'"),
        ('ViT-B-16-SigLIP2:openai', "has no weights 'openai': choose webli"),
        ('coca_ViT-B-32', 'is a CoCa'),
    ],
)
def test_bad_names_are_refused(encoder, message):
    with pytest.raises(ValueError, match=message):
        changed(encoder)


def test_a_model_without_an_encoder_is_refused():
    with pytest.raises(ValueError, match='has none'):
        set_encoder(Config({'model': {'type': 'X'}}), 'local-dir:/there')


def test_the_command_line(tmp_path, capsys):
    """The demo's own encoder in the config that is meant for photographs."""
    out = tmp_path / 'tags.jsonl'
    arguments = ['tag', str(SCENE), '--classes', 'bell,train', '--background', 'wall']
    folder = f'local-dir:{ROOT / "demo/model"}'
    assert cli.main([*arguments, '--encoder', folder, '--out', str(out)]) == 0
    assert json.loads(out.read_text().splitlines()[-1])['tags']
    assert cli.main([*arguments, '--encoder', 'ViT-B-99']) == 2
    assert "no architecture 'ViT-B-99'" in capsys.readouterr().err


def test_the_inferencer(demo_tagger):
    folder = f'local-dir:{ROOT / "demo/model"}'
    tagger = TagInferencer('tagclip_demo', encoder=folder, show_progress=False)
    (mine,), (own,) = tagger(SCENE), demo_tagger(SCENE)
    assert mine.tags == own.tags
    with pytest.raises(ValueError, match='a built model has its encoder'):
        TagInferencer(demo_tagger.model, encoder=folder)
    assert load_config('tagclip_demo', encoder=folder).model.encoder.model == folder
