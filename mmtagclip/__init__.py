"""TagCLIP for OpenMMLab: what is in an image, and where, without labels."""

from typing import TYPE_CHECKING

from .compat import check_distributions, installed_versions
from .lazy import lazy_names
from .version import __version__

if TYPE_CHECKING:
    from .apis import SegInferencer, TagInferencer

check_distributions(installed_versions())

__all__ = ['SegInferencer', 'TagInferencer', '__version__']

__getattr__, __dir__ = lazy_names(__name__, {'.apis': ('SegInferencer', 'TagInferencer')})
