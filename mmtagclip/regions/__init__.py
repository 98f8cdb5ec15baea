"""Features of other models, and which places of an image belong together."""

from typing import TYPE_CHECKING

from ..lazy import lazy_names

if TYPE_CHECKING:
    from .automatic import RegionSource, SAM2Regions, SAMRegions
    from .bank import MemoryBank
    from .corrclip import CorrCLIPLastBlock
    from .features import Affinity, AffinitySource, EncoderFeatures, TimmFeatures
    from .files import RegionFile, paint, read_regions, region_files
    from .proxy import ProxyLastBlock
    from .references import ReferenceBank
    from .sam import SAM

__all__ = [
    'SAM',
    'Affinity',
    'AffinitySource',
    'CorrCLIPLastBlock',
    'EncoderFeatures',
    'MemoryBank',
    'ProxyLastBlock',
    'ReferenceBank',
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
        '.features': ('Affinity', 'AffinitySource', 'EncoderFeatures', 'TimmFeatures'),
        '.files': ('RegionFile', 'paint', 'read_regions', 'region_files'),
        '.proxy': ('ProxyLastBlock',),
        '.references': ('ReferenceBank',),
        '.sam': ('SAM',),
    },
)
