"""Whom long work belongs to: what decides its results, as values that can be stored and compared.

A job is described by what was built, not by the config: files that parts have read count by
their content, whatever option named them.
"""

import dataclasses
import enum
import functools
import hashlib
import json
import os
import re
import types
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

# Of a stored description: longer values become their digest, and so do larger mappings.
LONGEST_VALUE = 2000
LARGEST_MAPPING = 100
PACKAGE = __name__.partition('.')[0]


class Source(NamedTuple):
    """An image of a job.

    Attributes:
        name: Its path or name.
        stamp: JSON value that changes when the image's content does, see :func:`file_stamp`.
    """

    name: str
    stamp: Any = None


def file_stamp(path: str | Path) -> list[int] | None:
    """Size in bytes and time of the last change in ns of a file; None if there is none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # a ValueError where a name holds a null character
        return None
    return [status.st_size, status.st_mtime_ns]


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
            return sorted((self.describe(one, where) for one in part), key=_text)
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
        return f'array {part.dtype} {part.shape} {_hash(np.ascontiguousarray(part).tobytes())}'
    if isinstance(part, bytes | bytearray):
        return f'bytes {_hash(bytes(part))}'
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
    return f'tensor {tensor.dtype} {tuple(tensor.shape)} {_hash(content)}'


def flatten(description: Any, path: str = '') -> dict[str, Any]:
    """A description as one mapping, from the path of a value to the value.

    What is long becomes a digest, so that the whole can be stored and read.
    """
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(description, dict) and len(description) <= LARGEST_MAPPING:
        items = description.items()
    elif isinstance(description, list) and any(isinstance(one, dict) for one in description):
        items = enumerate(description)
    flat = {}
    for key, value in items:
        flat.update(flatten(value, f'{path}.{key}' if path else str(key)))
    if flat or not path:
        return flat
    text = _text(description)
    return {path: description if len(text) <= LONGEST_VALUE else f'digest {digest(description)}'}


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two flat descriptions, a phrase each; what says most comes first.

    What follows from a named difference is left out: all options of a part whose class differs,
    an equal change of the same option in another part, and digests, unless nothing else differs.
    """
    missing = object()
    changed = [
        key
        for key in {**before, **now}
        if _text_of(before.get(key, missing)) != _text_of(now.get(key, missing))
    ]
    others = tuple(key.removesuffix('class') for key in changed if key.endswith('.class'))
    changed = [
        key
        for key in changed
        if not any(key.startswith(part) and key != f'{part}class' for part in others)
    ]

    def says_little(key: str) -> bool:
        values = (before.get(key, ''), now.get(key, ''))
        return any(isinstance(one, str) and re.search('[0-9a-f]{32}', one) for one in values)

    changed = [key for key in changed if not says_little(key)] or changed
    phrases: dict[tuple, str] = {}
    for key in sorted(changed, key=lambda key: key.count('.')):
        was, is_now = (
            _short(values[key]) if key in values else 'not there' for values in (before, now)
        )
        same = (tuple(key.split('.')[-2:]), was, is_now)
        phrases.setdefault(same, f'{key} was {was}, now it is {is_now}')
    return list(phrases.values())


def digest(content: Any) -> str:
    """Digest of JSON values, 32 hexadecimal digits."""
    return _hash(_text(content).encode(errors='backslashreplace'))


def _hash(content: Any) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def _text(content: Any) -> str:
    return json.dumps(content, sort_keys=True, ensure_ascii=False)


def _text_of(value: Any) -> Any:
    """A value as it compares once it was stored: tuples are lists then."""
    return value if type(value) is object else _text(value)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + '...'


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
