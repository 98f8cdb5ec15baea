"""--cfg-options with lists of names."""

import argparse

import pytest

from mmtagclip.engine import CfgOptions


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
