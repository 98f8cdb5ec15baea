"""A web page on this machine: drop a picture, type class names, see tags and masks."""

from .server import Limits, make_app, serve

__all__ = ['Limits', 'make_app', 'serve']
