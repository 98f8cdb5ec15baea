"""Jobs over many images on many machines: listings, tables of results, and Ray Data.

Each name is imported on first use.
"""

from typing import TYPE_CHECKING

from ..lazy import lazy_names

if TYPE_CHECKING:
    from .cost import Plan, plan
    from .job import Summary, run
    from .listing import make_listing
    from .predictor import BatchPredictor

__all__ = ['BatchPredictor', 'Plan', 'Summary', 'make_listing', 'plan', 'run']
__getattr__, __dir__ = lazy_names(
    __name__,
    {
        '.cost': ('Plan', 'plan'),
        '.listing': ('make_listing',),
        '.predictor': ('BatchPredictor',),
        '.job': ('Summary', 'run'),
    },
)
