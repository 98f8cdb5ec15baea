"""From pictures to answers: inferencers, their results, and the models that come along."""

# First: the modules below import the frameworks as well, which then have said their lines.
from .. import frameworks  # noqa: F401
from .analysis import Analysis
from .inferencer import SegInferencer, TagInferencer, inferencer_class
from .inputs import ImageInput, list_images
from .model_zoo import ModelEntry, find_config, list_models, load_config, zoo_root
from .results import SegResult, TagResult

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
