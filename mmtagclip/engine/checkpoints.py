"""Checkpoints that MMEngine is given, read without running what is in them."""

import pickle
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.runner.checkpoint import (
    CheckpointLoader,
    get_deprecated_model_names,
    get_external_models,
    get_mmcls_models,
    get_torchvision_models,
    load_from_local,
)
from torch import Tensor
from torch.hub import get_dir

from ..clip.torch_file import plain, read_torch_zip
from ..files import user_path


def trust_checkpoints(trust: bool) -> None:
    """Say how MMEngine reads local checkpoint files from now on.

    Args:
        trust: Whether it unpickles them, which runs whatever code they bring;
            else they are read by :func:`read_checkpoint`.
    """
    loader = load_from_local if trust else read_checkpoint
    CheckpointLoader.register_scheme('', loader, force=True)


def read_checkpoint(filename: str | Path, map_location: Any = None) -> dict[str, Any]:
    """Read a file that MMEngine saved: weights, numbers, strings and containers.

    Objects of classes are left out, such as the windows over which MMEngine
    averages what it logs.

    Args:
        filename: Path of the file.
        map_location: Ignored: tensors are on the CPU. MMEngine passes it.

    Returns:
        What it holds, the weights under ``'state_dict'`` or bare.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, or holds other objects among its weights.
    """
    path = user_path(filename)
    if not path.is_file():
        raise FileNotFoundError(f'no checkpoint at {path}')
    try:
        if zipfile.is_zipfile(path):
            content = plain(read_torch_zip(path, strict=False))
        elif tarfile.is_tarfile(path):
            raise ValueError('it is a tar archive, as PyTorch wrote before 2018')
        else:
            content = torch.load(path, map_location='cpu', weights_only=True)
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        ValueError,
        zipfile.BadZipFile,
    ) as error:
        raise ValueError(
            f'{path} is damaged or can not be read as data alone: {_first(error)}; if you know '
            'that it may run code, pass --trust-checkpoint (trust_checkpoint=True)'
        ) from None
    weights = content.get('state_dict', content) if isinstance(content, Mapping) else None
    if not isinstance(weights, Mapping) or not any(
        isinstance(value, Tensor) for value in weights.values()
    ):
        raise ValueError(
            f'{path} holds no weights that can be read as data alone; if you know that it may '
            'run code, pass --trust-checkpoint (trust_checkpoint=True)'
        )
    return dict(content)


def _first(error: Exception) -> str:
    """The first sentence of an error; torch's goes on for a page."""
    (line, *_) = str(error).splitlines() or [type(error).__name__]
    return line.partition('. ')[0]


def settle_url_weights(cfg: Any, download: bool) -> None:
    """Refuse to download what a training would start from, unless it is allowed.

    Args:
        cfg: Config of a training. What counts is ``load_from``, and ``init_cfg`` and
            ``pretrained`` of the model's parts.
        download: Whether downloads are allowed.

    Raises:
        FileNotFoundError: A file is not on this machine.
    """
    if download:
        return
    for text in filter(None, (*_start_weights(cfg.get('model')), cfg.get('load_from'))):
        url = _url(str(text))
        if url is not None and not Path(get_dir(), 'checkpoints', url.rpartition('/')[2]).is_file():
            raise FileNotFoundError(
                f'the weights {text} are not on this machine, and nothing is downloaded without '
                f'asking: allow it with --download, or put {url} into {get_dir()}/checkpoints'
            )


def _start_weights(part: Any) -> Iterator[Any]:
    """Values of the keys that name a file or address to start from."""
    if isinstance(part, Mapping):
        start = part.get('init_cfg')
        for one in start if isinstance(start, list | tuple) else [start]:
            yield one.get('checkpoint') if isinstance(one, Mapping) else None
        yield part.get('pretrained') if isinstance(part.get('pretrained'), str) else None
        part = list(part.values())
    if isinstance(part, list | tuple):
        for one in part:
            yield from _start_weights(one)


def _url(text: str) -> str | None:
    """The address that MMEngine would read; None for a file."""
    scheme, _, name = text.partition('://')
    if scheme in ('open-mmlab', 'openmmlab'):
        return get_external_models().get(get_deprecated_model_names().get(name, name))
    if scheme in ('torchvision', 'modelzoo'):
        return get_torchvision_models().get(name)
    if scheme == 'mmcls':
        return get_mmcls_models().get(name)
    return text if scheme in ('http', 'https') else None
