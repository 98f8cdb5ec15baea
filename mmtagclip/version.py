"""Version of the package. The build reads it; caches and outputs record it."""

__version__ = '0.6.3'
