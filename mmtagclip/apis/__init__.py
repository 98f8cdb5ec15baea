"""From images to answers: inferencers, their results, and the bundled models."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .analysis import Analysis
    from .inputs import ImageInput, list_images
    from .model_zoo import ModelEntry, find_config, list_models, load_config, zoo_root
    from .results import SegResult, TagResult
    from .seg_inferencer import SegInferencer, inferencer_class
    from .tag_inferencer import TagInferencer

__all__ = [
    'Analysis',
    'ImageInput',
    'ModelEntry',
    'SegInferencer',
    'SegResult',
    'TagInferencer',
    'TagResult',
    'find_config',
    'inferencer_class',
    'list_images',
    'list_models',
    'load_config',
    'zoo_root',
]
_MODULES = {
    'analysis': ('Analysis',),
    'inputs': ('ImageInput', 'list_images'),
    'model_zoo': ('ModelEntry', 'find_config', 'list_models', 'load_config', 'zoo_root'),
    'results': ('SegResult', 'TagResult'),
    'seg_inferencer': ('SegInferencer', 'inferencer_class'),
    'tag_inferencer': ('TagInferencer',),
}


def __getattr__(name: str) -> Any:
    """A name of ``__all__``, imported on first use: listing images needs no torch."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f'.{module}', __name__), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
    """All names, with those that are not imported yet."""
    return sorted({*globals(), *__all__})
