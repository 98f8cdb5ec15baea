"""Image towers, one file per family. A new file in this folder is found automatically."""

import pkgutil
from importlib import import_module

from .base import POSITIONS, TOWERS, Tower, build_tower, check_tower, resize_positions, tower

for _module in pkgutil.iter_modules(__path__):
    import_module(f'{__name__}.{_module.name}')

__all__ = [
    'POSITIONS',
    'TOWERS',
    'Tower',
    'build_tower',
    'check_tower',
    'resize_positions',
    'tower',
]
