"""Features of other models, and which places of an image belong together."""

from typing import TYPE_CHECKING

from ..lazy import lazy_names

if TYPE_CHECKING:
    from .automatic import RegionSource, SAM2Regions, SAMRegions
    from .bank import MemoryBank
    from .corrclip import CorrCLIPLastBlock
    from .features import Affinity, AffinitySource, TimmFeatures
    from .files import RegionFile, paint, read_regions, region_files
    from .proxy import ProxyLastBlock
    from .sam import SAM

__all__ = [
    'SAM',
    'Affinity',
    'AffinitySource',
    'CorrCLIPLastBlock',
    'MemoryBank',
    'ProxyLastBlock',
    'RegionFile',
    'RegionSource',
    'SAM2Regions',
    'SAMRegions',
    'TimmFeatures',
    'paint',
    'read_regions',
    'region_files',
]
__getattr__, __dir__ = lazy_names(
    __name__,
    {
        '.automatic': ('RegionSource', 'SAM2Regions', 'SAMRegions'),
        '.bank': ('MemoryBank',),
        '.corrclip': ('CorrCLIPLastBlock',),
        '.features': ('Affinity', 'AffinitySource', 'TimmFeatures'),
        '.files': ('RegionFile', 'paint', 'read_regions', 'region_files'),
        '.proxy': ('ProxyLastBlock',),
        '.sam': ('SAM',),
    },
)
