"""Features of other models, and which places of an image belong together."""

from .features import Affinity, AffinitySource, TimmFeatures
from .proxy import ProxyLastBlock

__all__ = ['Affinity', 'AffinitySource', 'ProxyLastBlock', 'TimmFeatures']
