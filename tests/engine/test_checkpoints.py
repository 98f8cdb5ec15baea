"""Checkpoints of MMEngine, read as data."""

import pickle
from pickle import UnpicklingError

import numpy as np
import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.fileio.handlers import file_handlers
from mmengine.logging import MessageHub
from mmengine.model import Sequential
from mmengine.runner import CheckpointLoader

from mmtagclip.engine.checkpoints import (
    FORCE_DATA,
    read_checkpoint,
    settle_url_weights,
    trust_checkpoints,
)


class Harmful:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), 'w'))


@pytest.fixture
def saved(tmp_path):
    """What MMEngine saves of a training, with an object that runs code beside it."""
    hub = MessageHub('of this test')
    for step in range(3):
        hub.update_scalar('train/loss', 0.1 * step)
    hub.update_info('iter', 3)
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.rand(4, 3)).sum().backward()
    optimizer.step()
    return {
        'meta': {'iter': 3, 'epoch': 0, 'seed': np.int64(7), 'cfg': 'a = 1\n'},
        'state_dict': model.state_dict(),
        'optimizer': optimizer.state_dict(),
        'message_hub': hub.state_dict(),
        'extra': [Harmful(tmp_path / 'ran'), (np.ones(3), {1, 2})],
    }


def test_weights_and_numbers_are_read_and_nothing_runs(saved, tmp_path):
    torch.save(saved, tmp_path / 'iter_3.pth')
    read = read_checkpoint(tmp_path / 'iter_3.pth')
    assert not (tmp_path / 'ran').exists()
    assert list(read['state_dict']) == list(saved['state_dict'])
    for key, value in saved['state_dict'].items():
        assert torch.equal(read['state_dict'][key], value)
    momentum = saved['optimizer']['state'][0]['momentum_buffer']
    assert torch.equal(read['optimizer']['state'][0]['momentum_buffer'], momentum)
    assert read['optimizer']['param_groups'] == saved['optimizer']['param_groups']
    assert read['meta'] == {'iter': 3, 'epoch': 0, 'cfg': 'a = 1\n'}
    hub = MessageHub('another')
    hub.load_state_dict(read['message_hub'])
    assert hub.get_info('iter') == 3
    assert not hub.log_scalars


@pytest.fixture
def mmengine(monkeypatch):
    """What MMEngine and PyTorch read with, which a test may change."""
    monkeypatch.setattr(CheckpointLoader, '_schemes', dict(CheckpointLoader._schemes))
    monkeypatch.setenv(FORCE_DATA, '0')
    for kind in ('pkl', 'pickle', 'yml', 'yaml'):
        monkeypatch.setitem(file_handlers, kind, file_handlers[kind])


def test_mmengine_reads_through_it_once_told(saved, tmp_path, mmengine):
    torch.save(saved, tmp_path / 'iter_3.pth')
    for trust in (False, True):
        trust_checkpoints(trust)
        read = CheckpointLoader.load_checkpoint(str(tmp_path / 'iter_3.pth'), map_location='cpu')
        assert set(read) == set(saved)
        assert (tmp_path / 'ran').exists() is trust


def test_a_url_that_a_config_names_is_read_as_weights_only(saved, tmp_path, mmengine, monkeypatch):
    monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path))
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'hub'))
    folder = tmp_path / 'checkpoints'
    folder.mkdir()
    torch.save(saved, folder / 'bad.pth')  # as if it were downloaded before
    torch.save(saved['state_dict'], folder / 'good.pth')
    good = {'type': 'Pretrained', 'checkpoint': 'https://example.org/good.pth'}
    bad = {**good, 'checkpoint': 'https://example.org/bad.pth'}
    trust_checkpoints(False)

    def build(init_cfg):
        model = Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2), init_cfg=init_cfg)
        model.init_weights()
        return model

    assert torch.equal(build(good)[0].weight, saved['state_dict']['0.weight'])
    with pytest.raises(UnpicklingError, match='Weights only load failed'):
        build(bad)
    assert not (tmp_path / 'ran').exists()
    trust_checkpoints(True)
    build(bad)
    assert (tmp_path / 'ran').exists()


@pytest.mark.parametrize('kind', ['pkl', 'pickle', 'yml', 'yaml'])
def test_annotations_of_a_config_run_nothing(tmp_path, mmengine, kind):
    path, ran = tmp_path / f'annotations.{kind}', tmp_path / 'ran'
    if kind.startswith('p'):
        path.write_bytes(pickle.dumps(Harmful(ran)))
        message = 'save its content as JSON, or pass --trust-checkpoint'
    else:
        path.write_text(f'!!python/object/apply:os.mkdir ["{ran}"]\n')
        message = 'may run code: could not determine a constructor'
    trust_checkpoints(False)
    with pytest.raises(ValueError, match=message):
        BaseDataset(ann_file=str(path))
    assert not ran.exists()
    trust_checkpoints(True)
    with pytest.raises(TypeError):  # what the code returned is no annotations
        BaseDataset(ann_file=str(path))
    assert ran.exists()


def test_annotations_in_yaml_are_read(tmp_path, mmengine):
    content = {'metainfo': {'classes': ['dog']}, 'data_list': [{'img_path': 'a.jpg'}]}
    (tmp_path / 'a.yml').write_text(yaml.safe_dump(content))
    trust_checkpoints(False)
    (one,) = BaseDataset(ann_file=str(tmp_path / 'a.yml'))
    assert one['img_path'] == 'a.jpg'


def test_what_can_not_be_read_as_data_is_refused(saved, tmp_path):
    path = tmp_path / 'old.pth'
    torch.save(saved, path, _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match='may run code, pass --trust-checkpoint'):
        read_checkpoint(path)
    torch.save({'state_dict': saved['state_dict']}, path, _use_new_zipfile_serialization=False)
    assert set(read_checkpoint(path)['state_dict']) == set(saved['state_dict'])
    for content in ({'state_dict': Harmful(tmp_path / 'ran')}, Harmful(tmp_path / 'ran'), {}):
        torch.save(content, path)
        with pytest.raises(ValueError, match='holds no weights that can be read as data alone'):
            read_checkpoint(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r'old\.pth is damaged'):
        read_checkpoint(path)
    with pytest.raises(FileNotFoundError, match=r'no checkpoint at .*none\.pth'):
        read_checkpoint(tmp_path / 'none.pth')
    assert not (tmp_path / 'ran').exists()


OPEN = 'open-mmlab://resnet50_v1c'
RESNET = 'https://download.openmmlab.com/pretrain/third_party/resnet50_v1c-2cccc1ad.pth'


@pytest.mark.parametrize(
    'config, name, url',
    [
        ({'load_from': RESNET}, RESNET, RESNET),
        *(
            ({'model': {'pretrained': one}}, one, 'https://.*/resnet50_v1c-2cccc1ad[.]pth')
            for one in (OPEN, OPEN.replace('open-mmlab', 'openmmlab'))
        ),
        (
            {'model': {'backbone': {'init_cfg': {'type': 'Pretrained', 'checkpoint': RESNET}}}},
            RESNET,
            RESNET,
        ),
        (
            {'model': {'heads': [{'init_cfg': [{}, {'checkpoint': 'torchvision://resnet50'}]}]}},
            'torchvision://resnet50',
            'https://download.pytorch.org/models/resnet50-',
        ),
    ],
)
def test_a_training_downloads_only_what_is_allowed(config, name, url, tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    config = Config({'model': {}, **config})
    with pytest.raises(
        FileNotFoundError, match=f'the weights {name} are not .*or put {url}.* into'
    ):
        settle_url_weights(config, False)
    settle_url_weights(config, True)
    if 'resnet50_v1c' in url:
        (tmp_path / 'hub' / 'checkpoints').mkdir(parents=True)
        (tmp_path / 'hub' / 'checkpoints' / 'resnet50_v1c-2cccc1ad.pth').touch()
        settle_url_weights(config, False)


def test_files_and_random_weights_are_no_downloads():
    init = [{'type': 'Constant', 'val': 0}, {'type': 'Pretrained', 'checkpoint': 'a.pth'}]
    model = {'backbone': {'init_cfg': init}, 'pretrained': None, 'neck': {'init_cfg': None}}
    settle_url_weights(Config({'model': model, 'load_from': 'b.pth'}), False)
