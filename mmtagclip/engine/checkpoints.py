"""Files that MMEngine is given, read without running what is in them."""

import os
import pickle
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from mmengine.fileio import PickleHandler, YamlHandler
from mmengine.fileio.handlers import file_handlers
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

FORCE_DATA = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'  # of every call of torch.load


class PickleRefused(PickleHandler):
    """MMEngine's handler of ``.pkl`` and ``.pickle`` files, which reads none."""

    def load_from_fileobj(self, file: Any, **kwargs: Any) -> Any:
        """Refuse the file.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            'the config names a .pkl or .pickle file, such as annotations, which may run code: '
            'save its content as JSON, or pass --trust-checkpoint'
        )


class SafeYaml(YamlHandler):
    """MMEngine's handler of YAML files, which makes numbers, strings and containers only."""

    def load_from_fileobj(self, file: Any, **kwargs: Any) -> Any:
        """Read the file.

        Raises:
            ValueError: It is damaged, or holds other objects.
        """
        try:
            return yaml.safe_load(file)
        except yaml.YAMLError as error:
            place = ' '.join(str(error).split())
            raise ValueError(
                f'a YAML file that the config names is damaged or holds objects, which may run '
                f'code: {place}; if you know that it may, pass --trust-checkpoint'
            ) from None


def trust_checkpoints(trust: bool) -> None:
    """Say how MMEngine reads what a config names: checkpoints and annotation files.

    Holds for the rest of the process: for ``load_from``, ``resume`` and ``init_cfg``, files and
    URLs alike, and for files of annotations.

    Args:
        trust: Whether they are unpickled, which runs whatever code they bring. Else local
            checkpoints are read by :func:`read_checkpoint`, all others by PyTorch as weights
            only, YAML as data, and ``.pkl`` files are refused.
    """
    os.environ[FORCE_DATA] = str(int(not trust))
    loader = load_from_local if trust else read_checkpoint
    CheckpointLoader.register_scheme('', loader, force=True)
    file_handlers['pkl'] = file_handlers['pickle'] = PickleHandler() if trust else PickleRefused()
    file_handlers['yml'] = file_handlers['yaml'] = YamlHandler() if trust else SafeYaml()


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
    """Refuse to download what a run would start from, unless it is allowed.

    Args:
        cfg: Config of a run. What counts is ``load_from``, and ``init_cfg`` and
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
