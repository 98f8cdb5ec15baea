"""From images to answers: inferencers, their results, and the bundled models.

Each name is imported on first use: listing images needs no torch, a tagger no MMSegmentation.
"""

from typing import TYPE_CHECKING

from ..lazy import lazy_names

if TYPE_CHECKING:
    from .analysis import Analysis
    from .banks import build_bank, load_reference_encoder, load_region_encoder
    from .calibration import calibrate
    from .embedding import Embedder, EmbeddingFile, embed_images, search
    from .inferencer import inferencer_class
    from .inputs import ImageInput, list_images
    from .model_zoo import ModelEntry, find_config, list_models, load_config, zoo_root
    from .references import build_references
    from .results import SegResult, TagResult
    from .seg_inferencer import SegInferencer
    from .tag_inferencer import TagInferencer

__all__ = [
    'Analysis',
    'Embedder',
    'EmbeddingFile',
    'ImageInput',
    'ModelEntry',
    'SegInferencer',
    'SegResult',
    'TagInferencer',
    'TagResult',
    'build_bank',
    'build_references',
    'calibrate',
    'embed_images',
    'find_config',
    'inferencer_class',
    'list_images',
    'list_models',
    'load_config',
    'load_reference_encoder',
    'load_region_encoder',
    'search',
    'zoo_root',
]
__getattr__, __dir__ = lazy_names(
    __name__,
    {
        '.analysis': ('Analysis',),
        '.banks': ('build_bank', 'load_reference_encoder', 'load_region_encoder'),
        '.calibration': ('calibrate',),
        '.embedding': ('Embedder', 'EmbeddingFile', 'embed_images', 'search'),
        '.inferencer': ('inferencer_class',),
        '.inputs': ('ImageInput', 'list_images'),
        '.model_zoo': ('ModelEntry', 'find_config', 'list_models', 'load_config', 'zoo_root'),
        '.references': ('build_references',),
        '.results': ('SegResult', 'TagResult'),
        '.seg_inferencer': ('SegInferencer',),
        '.tag_inferencer': ('TagInferencer',),
    },
)
