"""Whom long work belongs to: what decides its results, described as JSON values.

A job is described by what was built, not by the config: files that parts have read count by
their content, whatever option named them.
"""

import dataclasses
import enum
import functools
import os
import re
import types
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from .description import Source, digest, file_stamp, hash_of, text_of

PACKAGE = __name__.partition('.')[0]


def dataset_sources(dataset: Any) -> list[Source]:
    """The images of an OpenMMLab data set; nothing is decoded.

    The stamp covers every file that the data set names for an image, such as its mask.
    """
    sources = []
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        files = sorted(key for key in info if key.endswith('_path') and isinstance(info[key], str))
        sources.append(Source(str(info['img_path']), [file_stamp(info[key]) for key in files]))
    return sources


def dataset_identity(dataset: Any) -> dict[str, Any]:
    """What a data set and its pipeline do to an image, as :func:`identity` describes it."""
    return {'metainfo': identity(dataset.metainfo), 'pipeline': identity(dataset.pipeline)}


def loader_of(batches: Sequence[list[int]], like: DataLoader) -> DataLoader:
    """A data loader of some batches of the images of another one."""
    return DataLoader(
        like.dataset,
        batch_sampler=batches,  # type: ignore[arg-type]
        num_workers=like.num_workers,
        collate_fn=like.collate_fn,
        worker_init_fn=like.worker_init_fn,
        persistent_workers=False,
    )


def identity(part: Any) -> Any:
    """Describe what was built as JSON values: equal for parts that do the same.

    A module is described by its class, its public attributes, its parameters and buffers, and
    its parts; any other object by its class and its public attributes. Attributes whose name
    starts with ``_`` don't count: what has no influence on results, or follows from other
    attributes, belongs there. Tensors and arrays count by their digest, functions and classes
    by their name. Modules of other packages become one digest.

    Raises:
        TypeError: Something that can't be described; the message names the attribute.
    """
    return _Describer().describe(part, type(part).__name__)


class _Describer:
    """One walk. A part that is met again is described as before."""

    def __init__(self) -> None:
        # With the parts themselves, lest an id be that of another one later.
        self.known: dict[int, tuple[Any, Any]] = {}

    def describe(self, part: Any, where: str) -> Any:
        if part is None or type(part) in (bool, int, float, str):
            return part
        value = _plain(part)
        if value is not None:
            return value
        if id(part) in self.known:
            return self.known[id(part)][1]
        self.known[id(part)] = part, f'<{type(part).__name__} that holds this>'
        self.known[id(part)] = part, self._describe(part, where)
        return self.known[id(part)][1]

    def _describe(self, part: Any, where: str) -> Any:
        if isinstance(part, Mapping):
            return {
                _key(key, where): self.describe(value, f'{where}[{key!r}]')
                for key, value in part.items()
            }
        if isinstance(part, set | frozenset):
            return sorted((self.describe(one, where) for one in part), key=text_of)
        if isinstance(part, Sequence):
            return [self.describe(one, f'{where}[{number}]') for number, one in enumerate(part)]
        if isinstance(part, functools.partial):
            return {
                'function': self.describe(part.func, where),
                'arguments': self.describe([part.args, part.keywords], where),
            }
        if isinstance(part, nn.Module):
            return self._module(part, where)
        if dataclasses.is_dataclass(part) or hasattr(part, '__dict__'):
            return {'class': _name(type(part)), **self._attributes(_values(part), where)}
        raise TypeError(
            f'a job can not be told from others: {where} is a {type(part).__name__}, which is no '
            'value; if results do not depend on it, let its name start with "_"'
        )

    def _module(self, module: nn.Module, where: str) -> Any:
        content = {'class': _name(type(module)), **self._attributes(vars(module), where)}
        content.pop('training', None)
        for kind in (module._parameters, module._buffers):
            for name, value in kind.items():
                content[name] = self.describe(value, f'{where}.{name}')
        for name, part in module._modules.items():
            content[name] = self.describe(part, f'{where}.{name}')
        if type(module).__module__.partition('.')[0] != PACKAGE and _is_library(module):
            return f'{type(module).__name__} {digest(content)}'
        return content

    def _attributes(self, values: Mapping[str, Any], where: str) -> dict[str, Any]:
        return {
            name: self.describe(value, f'{where}.{name}')
            for name, value in values.items()
            if not name.startswith('_')
        }


def _plain(part: Any) -> Any:
    """Description of what has no parts; None if it has some."""
    if isinstance(part, Tensor):
        return tensor_digest(part)
    if isinstance(part, np.ndarray):
        return f'array {part.dtype} {part.shape} {hash_of(np.ascontiguousarray(part).tobytes())}'
    if isinstance(part, bytes | bytearray):
        return f'bytes {hash_of(bytes(part))}'
    if isinstance(part, enum.Enum):
        return f'{_name(type(part))}.{part.name}'
    if isinstance(part, re.Pattern):
        return f'pattern {part.pattern!r} {part.flags}'
    if isinstance(part, os.PathLike | torch.dtype | torch.device | complex | range | slice):
        return str(part)
    if isinstance(part, np.generic):
        return part.item()
    if isinstance(part, types.ModuleType):
        return part.__name__
    if isinstance(part, bool | int | float | str):  # of a class of their own
        return next(kind(part) for kind in (bool, int, float, str) if isinstance(part, kind))
    if isinstance(part, type | types.FunctionType | types.BuiltinFunctionType | types.MethodType):
        return _name(part)
    return None


def tensor_digest(tensor: Tensor) -> str:
    """Type, shape and digest of a tensor's values, wherever it lies."""
    content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return f'tensor {tensor.dtype} {tuple(tensor.shape)} {hash_of(content)}'


def _name(thing: Any) -> str:
    return f'{thing.__module__}.{thing.__qualname__}'


def _key(key: Any, where: str) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, tuple) or key is None or isinstance(key, bool | int | float):
        return repr(key)
    raise TypeError(f'a job can not be told from others: {where} has the key {key!r}')


def _values(part: Any) -> dict[str, Any]:
    """Attributes of an object, those of a dataclass with slots too."""
    if dataclasses.is_dataclass(part):
        return {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
    return vars(part)


def _is_library(module: nn.Module) -> bool:
    """Whether a module has no part of this package, which would be lost in one digest."""
    return not any(type(part).__module__.partition('.')[0] == PACKAGE for part in module.modules())
