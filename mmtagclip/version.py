"""The package's version, read by the build and recorded in caches and outputs."""

__version__ = '0.2.0'
