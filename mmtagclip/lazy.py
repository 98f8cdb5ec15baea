"""Packages whose names are imported on first use: what needs no torch does not wait for it."""

import gc
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

# Whether the process is a program of ours, which ends with all that it imported.
ours = False


def lazy_names(
    package: str, modules: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The functions ``__getattr__`` and ``__dir__`` of a package.

    Args:
        package: Full name of the package.
        modules: For each module, as an import in the package writes it (``.inputs``), the names
            that the package takes from it. A name that is also that of a module of the package
            would be lost to the module.
    """
    where = {name: module for module, names in modules.items() for name in names}

    def get(name: str) -> Any:
        """Import a name on its first use."""
        if name not in where:
            raise AttributeError(f'module {package!r} has no attribute {name!r}')
        with without_collection():
            value = getattr(import_module(where[name], package), name)
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        """List all names, with those that are not imported yet."""
        return sorted({*vars(sys.modules[package]), *where})

    return get, names


@contextmanager
def without_collection() -> Iterator[None]:
    """Import modules without Python's garbage collector.

    The large packages make two million objects that stay. Otherwise the collector looks at them
    again and again, which takes a third of the time of the imports.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        if ours:
            gc.freeze()  # else the first collection looks at all of it
        gc.enable()
