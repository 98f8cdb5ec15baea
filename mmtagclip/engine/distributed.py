"""Several processes, on CPUs too, for models that have nothing to train."""

import atexit
from typing import Any

import torch
import torch.distributed
from mmengine.config import Config
from torch import nn

from ..registry import MODEL_WRAPPERS


@MODEL_WRAPPERS.register_module()
class PassThroughWrapper(nn.Module):
    """A model wrapper that adds nothing.

    DistributedDataParallel refuses a model without trainable parameters, and
    evaluating one needs no exchange between the processes.
    """

    module: Any

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the model."""
        return self.module(*args, **kwargs)

    def test_step(self, data: Any) -> Any:
        """Call the model's ``test_step``."""
        return self.module.test_step(data)

    def val_step(self, data: Any) -> Any:
        """Call the model's ``val_step``."""
        return self.module.val_step(data)


def prepare_distributed(cfg: Config, launcher: str, train: bool = False) -> None:
    """Let a run have several processes, whatever the device.

    mmengine's start-up selects a CUDA device; without one the process group is
    opened here, with gloo, before the runner is built.

    Args:
        cfg: The config; ``launcher`` and, unless set, ``model_wrapper_cfg`` are
            filled in.
        launcher: ``'none'``, ``'pytorch'``, ``'slurm'`` or ``'mpi'``.
        train: Whether gradients are to be exchanged.
    """
    cfg.launcher = launcher
    if launcher == 'none':
        return
    on_cpu = not torch.cuda.is_available()
    if cfg.get('model_wrapper_cfg') is None:
        if not train:
            cfg.model_wrapper_cfg = {'type': 'mmtagclip.PassThroughWrapper'}
        elif on_cpu:  # where the default would name a device
            cfg.model_wrapper_cfg = {
                'type': 'MMDistributedDataParallel',
                'device_ids': None,
                'broadcast_buffers': False,
                'find_unused_parameters': cfg.get('find_unused_parameters', False),
            }
    if launcher == 'pytorch' and on_cpu and not torch.distributed.is_initialized():
        torch.distributed.init_process_group('gloo')
        # Left to the interpreter's end, gloo's threads may abort the process.
        atexit.register(torch.distributed.destroy_process_group)
