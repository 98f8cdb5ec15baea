"""Policies of block L-1, one file per method. A new file in this folder is found automatically."""

import pkgutil
from importlib import import_module

from .base import (
    LAST_BLOCKS,
    PADDING,
    Companions,
    LastBlock,
    LastBlockContext,
    Prepared,
    Start,
    Streams,
    last_block,
)

for _module in pkgutil.iter_modules(__path__):
    import_module(f'{__name__}.{_module.name}')

__all__ = [
    'LAST_BLOCKS',
    'PADDING',
    'Companions',
    'LastBlock',
    'LastBlockContext',
    'Prepared',
    'Start',
    'Streams',
    'last_block',
    *LAST_BLOCKS,
]


def __getattr__(name: str) -> type[LastBlock]:
    """Return a policy by its class name."""
    if name in LAST_BLOCKS:
        return LAST_BLOCKS[name]
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
