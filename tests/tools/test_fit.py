"""tools/train.py fits PIAA's classifier, tools/test.py evaluates the checkpoint."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from PIL import Image

from tests.conftest import picture
from tests.processes import ROOT, run_ranks, run_script
from tests.tools.test_test import write_voc

TRAIN_PY = ROOT / 'tools' / 'train.py'
CONFIG = """\
_base_ = '{configs}/piaa/piaa-sclip_vit-base-p16_openai_voc07.py'
model = dict(encoder=dict(_delete_=True, **{encoder}), classes={names},
             head=dict(scorer=dict(bank_size=50)))
data = dict(data_root='{root}', classes={names})
train_dataloader = dict(num_workers=0, dataset=dict(**data))
test_dataloader = dict(num_workers=0, dataset=dict(**data))
"""
NAMES = ['cat', 'dog', 'person', 'chair', 'sofa', 'car', 'bus']


@pytest.fixture(scope='module')
def write_config(tmp_path_factory, encoder_config):
    root = write_voc(tmp_path_factory.mktemp('voc') / 'VOC2007')
    names = [path.stem for path in sorted((root / 'JPEGImages').glob('*.jpg'))]
    for seed, name in enumerate(names):  # others to fit to, an odd number of images in all
        Image.fromarray(picture(80, 96, 100 + seed)).save(root / 'JPEGImages' / f'1{name}.jpg')
        shutil.copy(root / 'Annotations' / f'{name}.xml', root / 'Annotations' / f'1{name}.xml')
    (root / 'ImageSets/Main/trainval.txt').write_text(
        '\n'.join([*names, *(f'1{name}' for name in names[:4])])
    )

    def write_config(folder, more=''):
        path = folder / 'config.py'
        path.write_text(
            CONFIG.format(configs=ROOT / 'configs', encoder=encoder_config, root=root, names=NAMES)
            + more
        )
        return path

    return write_config


def tool(name, *arguments):
    return run_script(ROOT / 'tools' / name, *arguments)


@pytest.fixture(scope='module')
def fitted(write_config, tmp_path_factory):
    """The config and the checkpoint that one process fitted."""
    folder = tmp_path_factory.mktemp('fitted')
    config = write_config(folder)
    process = tool('train.py', config, '--work-dir', folder)
    assert process.returncode == 0, process.stderr
    return config, folder / 'piaa.pth'


def test_the_checkpoint_holds_the_classifier_alone(fitted):
    content = torch.load(fitted[1], weights_only=True)
    assert {
        key: tuple(value.shape)
        for key, value in content['state_dict'].items()
        if 'identity' not in key
    } == {'head.scorer.weight': (64, 7), 'head.scorer.bias': (7,)}
    assert content['meta']['classes'] == NAMES
    assert fitted[1].stat().st_size < 20_000


def test_two_processes_fit_the_same(write_config, fitted, tmp_path):
    process = run_ranks(TRAIN_PY, write_config(tmp_path), '--work-dir', tmp_path)
    assert process.returncode == 0, process.stderr
    one, two = (
        torch.load(path, weights_only=True)['state_dict']
        for path in (fitted[1], tmp_path / 'piaa.pth')
    )
    for key, value in one.items():
        assert torch.equal(value, two[key]), key


def test_an_interrupted_fit_goes_on_in_another_number_of_processes(write_config, fitted, tmp_path):
    """A damaged image ends the first start; it is put in order, and the second does the rest."""
    config = write_config(tmp_path, 'train_cfg = dict(save_seconds=0.0)\n')
    root = Path(Config.fromfile(config).train_dataloader.dataset.data_root)
    last = sorted((root / 'JPEGImages').glob('1*.jpg'))[3]
    content = last.read_bytes()
    last.write_bytes(b'no image')
    try:
        process = run_ranks(TRAIN_PY, config, '--work-dir', tmp_path)
    finally:
        last.write_bytes(content)
    assert process.returncode != 0
    assert last.name in process.stderr
    assert not (tmp_path / 'piaa.pth').exists()
    process = tool('train.py', config, '--work-dir', tmp_path)
    assert process.returncode == 0, process.stderr
    assert re.search('[3-8] of 9 images are done', process.stdout + process.stderr)
    assert not list(tmp_path.glob('*.safetensors'))
    one, two = (
        torch.load(path, weights_only=True)['state_dict']
        for path in (fitted[1], tmp_path / 'piaa.pth')
    )
    for key, value in one.items():
        assert torch.equal(value, two[key]), key


def test_it_is_evaluated(fitted, tmp_path):
    process = tool('test.py', *fitted, '--work-dir', tmp_path, '--out', tmp_path / 'metrics.json')
    assert process.returncode == 0, process.stderr
    assert 'missing keys' not in process.stderr + process.stdout
    metrics = json.loads((tmp_path / 'metrics.json').read_text())
    assert 0 < metrics['difficult_negative/mAP'] <= 100
    tags = [json.loads(line) for line in (tmp_path / 'tags.jsonl').read_text().splitlines()]
    assert len(tags) == 5
    assert all(set(line['tags']) <= set(NAMES) for line in tags)


def test_without_a_checkpoint_it_is_refused(fitted, tmp_path):
    process = tool('test.py', fitted[0], '--work-dir', tmp_path)
    assert process.returncode != 0
    assert 'the classifier is not fitted: fit it with tools/train.py' in process.stderr


def test_other_names_are_refused(write_config, fitted, tmp_path):
    config = write_config(tmp_path, "model['classes'][1] = 'cow'\n")
    process = tool('test.py', config, fitted[1], '--work-dir', tmp_path)
    assert process.returncode != 0
    assert (
        "fitted for other class names: it has 'dog' (7 names), the model has 'cow' (7 names)"
        in process.stderr
    )


@pytest.mark.parametrize(
    'more, message',
    [
        (
            "model['classes'] += ['cow', 'horse', 'tree']\n",
            '9 images are too few to fit 10 classes',
        ),
        (
            "model.update(head=dict(_delete_=True, type='mmtagclip.TagCLIPHead'))\n",
            'fits the one GaussianClassifier of a tagger, but TagCLIP has 0',
        ),
    ],
)
def test_what_can_not_be_fitted(write_config, tmp_path, more, message):
    process = tool('train.py', write_config(tmp_path, more), '--work-dir', tmp_path)
    assert process.returncode != 0
    assert message in process.stderr


def test_a_sampler_that_repeats_images_is_refused(write_config, tmp_path):
    config = write_config(tmp_path, 'train_dataloader.update(sampler=dict(round_up=True))\n')
    process = run_ranks(TRAIN_PY, config, '--work-dir', tmp_path)
    assert process.returncode != 0
    assert 'set round_up=False in train_dataloader.sampler' in process.stderr
