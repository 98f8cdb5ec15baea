"""TagCLIP for OpenMMLab: what is in a picture, and where, without labels."""

from typing import TYPE_CHECKING, Any

from .compat import check_distributions, installed_versions
from .version import __version__

if TYPE_CHECKING:
    from .apis import SegInferencer, TagInferencer

check_distributions(installed_versions())

__all__ = ['SegInferencer', 'TagInferencer', '__version__']


def __getattr__(name: str) -> Any:
    """An inferencer, imported when it is asked for: ``import mmtagclip`` alone is quick."""
    if name not in __all__:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from . import apis

    return getattr(apis, name)


def __dir__() -> list[str]:
    """What there is, with what is not imported yet."""
    return sorted({*globals(), *__all__})
