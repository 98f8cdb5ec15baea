"""The bundled models, and what their weights need."""

import re
from pathlib import Path

import pytest
from mmengine.config import Config

from mmtagclip.apis import find_config, list_models, load_config, model_zoo, zoo_root
from tests.apis.conftest import ROOT

LEAVES = {
    path.stem
    for path in (ROOT / 'configs').rglob('*.py')
    if '_base_' not in path.parts and path.stem != 'folder'
}


def test_every_config_is_in_the_zoo_under_its_own_name():
    entries = list_models()
    assert zoo_root() == ROOT
    assert sorted(entry.name for entry in entries) == sorted(LEAVES)
    for entry in entries:
        assert entry.config.stem == entry.name
        assert entry.task in ('tag', 'segment', 'train')


def test_task_and_weights_are_those_of_the_config():
    kinds = {
        'mmtagclip.TagCLIP': 'tag',
        'mmtagclip.CLSSeg': 'segment',
        'mmtagclip.DirectSegmentor': 'segment',
        'mmtagclip.ConceptSegmentor': 'segment',
    }
    for entry in list_models():
        config = Config.fromfile(entry.config)
        expected = 'train' if 'train_dataloader' in config else kinds[config.model.type]
        assert entry.task == expected
        assert list(entry.weights) == model_zoo.needed_weights(config), entry.name
        models = [str(encoder.model) for encoder in model_zoo.encoder_configs(config)]
        local = bool(models) and all(
            model.startswith(('local-dir:', 'TIPS', 'dinotxt')) for model in models
        )
        assert entry.task == 'train' or local == (not entry.weights), entry.name


def test_figures_are_marked_as_the_papers_or_measured_on_the_demo():
    for entry in list_models():
        for line in entry.results:
            assert re.search(r'\((paper|reported by)\b', line) or line.startswith('Demo')


def test_configs_are_found_by_path_or_name():
    path = ROOT / 'configs/demo/tagclip_demo.py'
    assert find_config(path) == path
    assert find_config('tagclip_demo') == find_config('tagclip_demo.py') == path
    config = load_config('tagclip_demo', {'model.head.threshold': 0.3})
    assert config.model.head.threshold == 0.3


def test_a_package_without_its_configs_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(model_zoo, 'PACKAGE', Path(tmp_path) / 'mmtagclip')
    with pytest.raises(FileNotFoundError, match='has no configs; install'):
        list_models()
