"""Features of other models, and which places of an image belong together."""

from .features import Affinity, AffinitySource, TimmFeatures
from .proxy import ProxyLastBlock
from .sam import SAM

__all__ = ['Affinity', 'AffinitySource', 'ProxyLastBlock', 'SAM', 'TimmFeatures']
