"""Hooks and helpers for the runner."""
from .distributed import PassThroughWrapper, prepare_distributed
from .tag_writer import TagWriterHook

__all__ = ['PassThroughWrapper', 'TagWriterHook', 'prepare_distributed']
