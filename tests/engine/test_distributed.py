"""What several processes need before anything is built."""

import pytest
import torch
from mmengine.config import Config

from mmtagclip.engine.distributed import prepare_distributed

WRAPPED = {'type': 'MMDistributedDataParallel', 'device_ids': None, 'broadcast_buffers': False}
UNUSED = {'find_unused_parameters': True}


@pytest.mark.parametrize(
    ('launcher', 'train', 'options', 'wrapper'),
    [
        ('none', True, {}, None),
        ('pytorch', False, {}, {'type': 'mmtagclip.PassThroughWrapper'}),
        ('pytorch', True, {}, {**WRAPPED, 'find_unused_parameters': False}),
        ('slurm', True, UNUSED, {**WRAPPED, **UNUSED}),
        ('pytorch', False, {'model_wrapper_cfg': {'type': 'Own'}}, {'type': 'Own'}),
    ],
)  # fmt: skip
def test_processes_on_a_cpu(launcher, train, options, wrapper, monkeypatch):
    """They talk by gloo, which is ended before the interpreter is, and name no GPU."""
    begun, ended = [], []
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    monkeypatch.setattr('torch.distributed.init_process_group', begun.append)
    monkeypatch.setattr('atexit.register', ended.append)
    cfg = Config(options)
    prepare_distributed(cfg, launcher, train)
    assert cfg.launcher == launcher
    assert cfg.get('model_wrapper_cfg') == wrapper
    by_torch = launcher == 'pytorch'
    assert begun == ['gloo'] * by_torch
    assert ended == [torch.distributed.destroy_process_group] * by_torch
