"""Other models' features, and which places of an image they put together."""

from .features import Affinity, AffinitySource, TimmFeatures
from .proxy import ProxyLastBlock

__all__ = ['Affinity', 'AffinitySource', 'ProxyLastBlock', 'TimmFeatures']
