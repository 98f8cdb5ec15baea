"""Results as files of other tools: one module per format.

A module of this folder with a ``FORMAT`` is a format: it is listed, chosen and tested by being
there.
"""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..extras import require
from .results import Entry, Results, open_results

__all__ = ['SHAPES', 'Entry', 'Format', 'Options', 'Results', 'formats', 'open_results']
# What a mask becomes: all pixels of a class together, or an outline or a box per region.
SHAPES = ('masks', 'polygons', 'boxes')


@dataclass(frozen=True)
class Options:
    """Settings of an export; a format ignores those that it has no use for.

    Attributes:
        shapes: What a mask becomes, one of :data:`SHAPES`; the format's usual one if None.
        min_area: Regions of fewer pixels are left out of polygons and boxes.
        tolerance: How far a polygon may be from the outline, in pixels; 0 is exact.
        image_url: What Label Studio finds an image by: this, followed by its file name.
        copy: Whether images are copied, not linked.
        overwrite: Whether existing files with another content are replaced.

    Raises:
        ValueError: A value out of range.
    """

    shapes: str | None = None
    min_area: int = 1
    tolerance: float = 1.0
    image_url: str = '/data/local-files/?d='
    copy: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.shapes not in (None, *SHAPES):
            raise ValueError(f'shapes must be {", ".join(SHAPES)}, not {self.shapes}')
        if self.min_area < 1:
            raise ValueError(f'min_area must be at least 1 pixel, not {self.min_area}')
        if not 0 <= self.tolerance < float('inf'):
            raise ValueError(f'tolerance must be at least 0 pixels, not {self.tolerance}')


@dataclass(frozen=True)
class Format:
    """A format of files.

    Attributes:
        name: Its name on the command line.
        text: What it is, for the help.
        write: Writes results to a file or folder; the file appears whole or not at all.
        suffix: Ending of its file; None if it is a folder.
        kinds: What it takes: ``'tags'``, ``'masks'``.
        shapes: What masks can become, the usual first.
        scratch: Whether ``write`` takes a folder for its temporary file, so that a run can end
            with it (``--out``).
        needs: A package that it needs, and the extra that brings it; None if none.
    """

    name: str
    text: str
    write: Callable[..., None]
    suffix: str | None = None
    kinds: tuple[str, ...] = ('tags', 'masks')
    shapes: tuple[str, ...] = ()
    scratch: bool = False
    needs: tuple[str, str] | None = None

    def check(self, kind: str, out: str | Path, options: Options) -> None:
        """Refuse results, an output or options that the format does not fit.

        Raises:
            ImportError: A package is not installed.
            ValueError: See above.
        """
        if self.needs is not None:
            require(*self.needs, self.name)
        if kind not in self.kinds:
            raise ValueError(f'{self.name} takes {" and ".join(self.kinds)}, not {kind}')
        suffix = Path(out).suffix.lower()
        if self.suffix is not None and suffix != self.suffix:
            raise ValueError(f'{self.name} is a file that ends in {self.suffix}, not {out}')
        if options.shapes is None:
            return
        if kind != 'masks':
            raise ValueError(f'shapes are made of masks, and these results have only {kind}')
        if options.shapes not in self.shapes:
            known = ', '.join(self.shapes) or 'nothing else'
            raise ValueError(f'{self.name} makes {known} of masks, not {options.shapes}')


def formats() -> dict[str, Format]:
    """All formats by their names, sorted."""
    modules = (
        importlib.import_module(f'{__name__}.{module.name}')
        for module in pkgutil.iter_modules(__path__)
    )
    found = [module.FORMAT for module in modules if hasattr(module, 'FORMAT')]
    return {one.name: one for one in sorted(found, key=lambda one: one.name)}


def formats_of_runs() -> dict[str, Format]:
    """Formats that a run can end with, by the ending of their file."""
    return {one.suffix: one for one in formats().values() if one.scratch and one.suffix}
