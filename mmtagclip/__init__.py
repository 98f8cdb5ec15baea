"""TagCLIP for OpenMMLab: what is in a picture, and where, without labels."""

from .compat import check_distributions, installed_versions
from .version import __version__

check_distributions(installed_versions())

__all__ = ['__version__']
