"""A web page on this machine: drop an image, type class names, see tags and masks."""

from .limits import Limits
from .server import make_app, serve

__all__ = ['Limits', 'make_app', 'serve']
