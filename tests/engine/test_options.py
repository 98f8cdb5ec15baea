"""Options of tools/test.py and tools/train.py: lists of names, and downloads."""

import argparse
import os

import pytest
from mmengine.config import Config

from mmtagclip.engine import CfgOptions
from mmtagclip.engine.options import add_run_options, parse_run, runner_of


@pytest.fixture
def parser():
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=CfgOptions)
    return parser


@pytest.mark.parametrize(
    ('words', 'value'),
    [
        (['a.b=[dog,cat]'], {'a.b': ['dog', 'cat']}),
        (['a=[8, 9]'], {'a': [8, 9]}),
        (['a=None', 'b=1'], {'a': None, 'b': 1}),
    ],
)
def test_what_mmengine_parses(parser, words, value):
    got = parser.parse_args(['--cfg-options', *words]).cfg_options
    assert {key: list(v) if isinstance(v, tuple) else v for key, v in got.items()} == value


@pytest.mark.parametrize(
    'word',
    [
        'a=[dog,traffic light]',
        'a="[traffic light,dog]"',
        'a=dog,traffic light',
        'a=traffic light,dog',
        'a=[dog,"traffic light"]',
        'a=my file.txt',
    ],
)
def test_names_with_spaces_are_refused(parser, word, capsys):
    with pytest.raises(SystemExit):
        parser.parse_args(['--cfg-options', word])
    assert 'put names with spaces into a file' in capsys.readouterr().err


def test_what_has_no_value_is_refused(parser, capsys):
    with pytest.raises(SystemExit):
        parser.parse_args(['--cfg-options', 'a=1', 'model.threshold'])
    assert 'model.threshold: an option is KEY=VALUE' in capsys.readouterr().err


@pytest.mark.parametrize('train', [False, True])
def test_a_run_downloads_nothing_without_asking(train, monkeypatch, tmp_path):
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE', str(tmp_path))
    encoder = {'model': 'ViT-B-16-quickgelu', 'pretrained': 'openai'}
    args = argparse.Namespace(download=False, trust_checkpoint=False, launcher='none')
    with pytest.raises(SystemExit, match=r'^error: the weights of ViT-B-16-quickgelu \(o'):
        runner_of(Config({'model': {'encoder': encoder}}), args, train)


def test_a_run_without_its_config_is_refused(monkeypatch, capsys, tmp_path):
    parser = argparse.ArgumentParser()
    parser.add_argument('config')
    add_run_options(parser)
    monkeypatch.setenv('LOCAL_RANK', '')  # so that it is as it was afterwards
    monkeypatch.delenv('LOCAL_RANK')
    monkeypatch.setattr('sys.argv', ['test.py', str(tmp_path / 'a.py'), '--local-rank', '3'])
    with pytest.raises(SystemExit):
        parse_run(parser)
    assert f'no config file at {tmp_path / "a.py"}' in capsys.readouterr().err
    (tmp_path / 'a.py').touch()
    args = parse_run(parser)
    assert (args.launcher, args.download, args.trust_checkpoint) == ('none', False, False)
    assert os.environ['LOCAL_RANK'] == '3'
