"""Read PyTorch's zip files as data: nothing in them is called, imported or run.

``torch.save`` and TorchScript (OpenAI's archives) write a pickle, ``*/data.pkl``, and one record of
raw numbers for each storage, ``*/data/N``. The functions here interpret the pickle's operations and
build tensors, numbers, strings and containers. All other operations are refused. PyTorch's own
loaders are not used: they run a TorchScript archive's code, and old versions of ``torch.load`` pass
such an archive to them even with ``weights_only=True``.
"""

import pickle
import pickletools
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

STORAGES = {
    'torch.DoubleStorage': torch.float64,
    'torch.FloatStorage': torch.float32,
    'torch.HalfStorage': torch.float16,
    'torch.BFloat16Storage': torch.bfloat16,
    'torch.LongStorage': torch.int64,
    'torch.IntStorage': torch.int32,
    'torch.ShortStorage': torch.int16,
    'torch.CharStorage': torch.int8,
    'torch.ByteStorage': torch.uint8,
    'torch.BoolStorage': torch.bool,
}
# Values that files may contain beside weights; they are ignored.
IGNORED = {
    'torch.Size',
    'torch.device',
    'torch.serialization._get_layout',
    '_codecs.encode',
    'numpy.dtype',
    'numpy.core.multiarray.scalar',
    'numpy._core.multiarray.scalar',
    *(str(dtype) for dtype in STORAGES.values()),
}


@dataclass(eq=False)
class Foreign:
    """Placeholder for an object of a class that is not read.

    Attributes:
        name: The class or function that would make the object.
        state: State of the object; the attributes of a TorchScript module.
    """

    name: str
    state: dict[Any, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Name:
    """A class or function that the pickle names."""

    full: str


def read_torch_zip(path: Path, strict: bool = True) -> Any:
    """Read a zip file of ``torch.save`` or of TorchScript.

    Args:
        path: The file.
        strict: Whether an object of an unknown class is refused. False reads it as
            :class:`Foreign`.

    Returns:
        The saved object; for a TorchScript archive, its state dict. All tensors are
        on the CPU.

    Raises:
        pickle.UnpicklingError: The file contains objects of unknown classes.
        ValueError: The file has another layout or is damaged.
        zipfile.BadZipFile: The file is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        pickles = [name for name in archive.namelist() if name.rpartition('/')[2] == 'data.pkl']
        if len(pickles) != 1:
            raise ValueError(f'it contains {len(pickles)} entries named data.pkl instead of one')
        content = _Reader(archive, pickles[0].removesuffix('.pkl'), strict).read()
    if isinstance(content, Foreign) and content.name.startswith('__torch__.'):
        return _module_tensors(content)
    return content


def _module_tensors(module: Foreign) -> dict[str, Tensor]:
    """Return the tensors of a TorchScript module by their attribute path."""
    tensors: dict[str, Tensor] = {}
    todo, seen = [('', module)], {id(module)}
    while todo:
        prefix, current = todo.pop()
        for name, value in current.state.items():
            if isinstance(value, Tensor):
                tensors[f'{prefix}{name}'] = value
            elif isinstance(value, Foreign) and id(value) not in seen:
                seen.add(id(value))
                todo.append((f'{prefix}{name}.', value))
    return tensors


class _Reader:
    """Reads the pickle of one archive.

    Args:
        archive: The opened file.
        records: Folder of the storages in the archive.
        strict: See :func:`read_torch_zip`.
    """

    def __init__(self, archive: zipfile.ZipFile, records: str, strict: bool) -> None:
        self.archive = archive
        self.records = records
        self.strict = strict
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Tensor] = {}

    def read(self) -> Any:
        """Return the object in the pickle."""
        try:
            for operation, argument, _ in pickletools.genops(self._bytes(f'{self.records}.pkl')):
                if operation.name == 'STOP':
                    return self.stack.pop()
                self._do(operation.name, argument)
        except (IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f'its data.pkl is damaged: {error!r}') from None
        raise ValueError('its data.pkl has no end')

    def _do(self, operation: str, argument: Any) -> None:
        """Execute one operation of the pickle."""
        stack = self.stack
        match operation:
            case 'PROTO' | 'FRAME':
                pass
            case 'MARK':
                self.marks.append(stack)
                self.stack = []
            case 'NONE':
                stack.append(None)
            case 'NEWTRUE' | 'NEWFALSE':
                stack.append(operation == 'NEWTRUE')
            case (
                'BININT'
                | 'BININT1'
                | 'BININT2'
                | 'LONG1'
                | 'BINFLOAT'
                | 'BINUNICODE'
                | 'SHORT_BINUNICODE'
                | 'BINBYTES'
                | 'SHORT_BINBYTES'
            ):
                stack.append(argument)
            case 'EMPTY_DICT' | 'EMPTY_LIST' | 'EMPTY_TUPLE' | 'EMPTY_SET':
                empty = {'EMPTY_DICT': dict, 'EMPTY_LIST': list, 'EMPTY_SET': list}
                stack.append(empty.get(operation, tuple)())
            case 'TUPLE':
                items = self._since_mark()
                self.stack.append(tuple(items))
            case 'TUPLE1' | 'TUPLE2' | 'TUPLE3':
                count = int(operation[-1])
                items = [stack.pop() for _ in range(count)]
                stack.append(tuple(reversed(items)))
            case 'APPEND':
                item = stack.pop()
                _list(stack[-1]).append(item)
            case 'APPENDS' | 'ADDITEMS':
                items = self._since_mark()
                _list(self.stack[-1]).extend(items)
            case 'SETITEM':
                value, key = stack.pop(), stack.pop()
                _items(stack[-1])[key] = value
            case 'SETITEMS':
                items = self._since_mark()
                _items(self.stack[-1]).update(zip(items[::2], items[1::2], strict=True))
            case 'BINPUT' | 'LONG_BINPUT':
                self.memo[argument] = stack[-1]
            case 'MEMOIZE':
                self.memo[len(self.memo)] = stack[-1]
            case 'BINGET' | 'LONG_BINGET':
                stack.append(self.memo[argument])
            case 'GLOBAL':
                stack.append(self._name(argument.replace(' ', '.')))
            case 'STACK_GLOBAL':
                name, module = stack.pop(), stack.pop()
                stack.append(self._name(f'{module}.{name}'))
            case 'BINPERSID':
                stack.append(self._storage(*stack.pop()))
            case 'REDUCE' | 'NEWOBJ':
                arguments, name = stack.pop(), stack.pop()
                # A method's result, or an object whose class has no name here.
                full = name.full if isinstance(name, _Name) or self.strict else ''
                stack.append(self._made(full, arguments))
            case 'BUILD':
                state = stack.pop()
                if isinstance(stack[-1], Foreign) and isinstance(state, dict):
                    stack[-1].state.update(state)
            case _:
                raise ValueError(f'its data.pkl has the operation {operation}')

    def _since_mark(self) -> list[Any]:
        items = self.stack
        self.stack = self.marks.pop()
        return items

    def _name(self, full: str) -> _Name:
        known = (
            full in STORAGES
            or full in IGNORED
            or full.startswith(('__torch__.', 'torch.jit._pickle.'))
            or full
            in {
                'collections.OrderedDict',
                'torch._utils._rebuild_tensor_v2',
                'torch._utils._rebuild_parameter',
            }
        )
        if self.strict and not known:
            raise pickle.UnpicklingError(f'it contains an object of {full}')
        return _Name(full)

    def _made(self, name: str, arguments: Any) -> Any:
        """Build the object that a class or function would return."""
        if name == 'collections.OrderedDict' and not arguments:
            return {}
        if name == 'torch._utils._rebuild_parameter' and isinstance(arguments[0], Tensor):
            return arguments[0]
        if name == 'torch._utils._rebuild_tensor_v2':
            storage, offset, size, stride = arguments[:4]
            if len(size) != len(stride) or min((offset, *size, *stride)) < 0:
                raise ValueError('it contains a tensor of an impossible shape')
            last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
            # Neither outside the storage nor larger than it (a repeated view).
            if prod(size) > len(storage) or (prod(size) and last >= len(storage)):
                raise ValueError('it contains a tensor that is larger than its storage')
            return storage.as_strided(size, stride, offset)
        return Foreign(name)

    def _storage(self, kind: str, dtype: _Name, key: str, device: str, length: int) -> Tensor:
        """Return all numbers of a storage, ``(length,)``."""
        if kind != 'storage' or not isinstance(key, str) or dtype.full not in STORAGES:
            raise ValueError(f'it contains a storage of {getattr(dtype, "full", dtype)}')
        if key not in self.storages:
            values = bytearray(self._bytes(f'{self.records}/{key}'))
            as_dtype = STORAGES[dtype.full]
            self.storages[key] = (
                torch.frombuffer(values, dtype=as_dtype)
                if values
                else torch.empty(0, dtype=as_dtype)
            )
        storage = self.storages[key]
        if storage.dtype != STORAGES[dtype.full] or len(storage) != length:
            raise ValueError(f'its storage {key} does not contain {length} numbers of {dtype.full}')
        return storage

    def _bytes(self, name: str) -> bytes:
        entry = self.archive.getinfo(name)
        # PyTorch does not compress, so an entry is never larger than the file.
        if entry.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f'its entry {name} is compressed')
        return self.archive.read(entry)


def _list(value: Any) -> list[Any]:
    if isinstance(value, Foreign):
        return []
    if not isinstance(value, list):
        raise TypeError('a list is missing')
    return value


def _items(value: Any) -> dict[Any, Any]:
    if isinstance(value, Foreign):
        return value.state
    if not isinstance(value, dict):
        raise TypeError('a dict is missing')
    return value


def plain(content: Any) -> Any:
    """Remove the placeholders of objects: dropped from dicts, None in lists and tuples."""
    if isinstance(content, Mapping):
        return {
            key: plain(value)
            for key, value in content.items()
            if not isinstance(value, Foreign | _Name) and not isinstance(key, Foreign | _Name)
        }
    if isinstance(content, list | tuple):
        return type(content)(plain(value) for value in content)
    return None if isinstance(content, Foreign | _Name) else content
