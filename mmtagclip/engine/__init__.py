"""Hooks and helpers for the runner."""
from .distributed import PassThroughWrapper, prepare_distributed
from .generate_loop import GenerateLoop
from .tag_writer import TagWriterHook

__all__ = ['GenerateLoop', 'PassThroughWrapper', 'TagWriterHook', 'prepare_distributed']
