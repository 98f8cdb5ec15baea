"""TagCLIP for OpenMMLab: what is in an image, and where, without labels."""

from typing import TYPE_CHECKING, Any

from .compat import check_distributions, installed_versions
from .version import __version__

if TYPE_CHECKING:
    from .apis import SegInferencer, TagInferencer

check_distributions(installed_versions())

__all__ = ['SegInferencer', 'TagInferencer', '__version__']


def __getattr__(name: str) -> Any:
    """Import an inferencer on first access, so ``import mmtagclip`` is quick."""
    if name not in __all__:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from . import apis

    return getattr(apis, name)


def __dir__() -> list[str]:
    """List all names, including those that are not imported yet."""
    return sorted({*globals(), *__all__})
