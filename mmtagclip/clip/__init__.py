"""The frozen CLIP: loading, dense encoder, last blocks, text features."""

from . import last_blocks
from .encoder import AttentionStatistics, DenseEncoder, DenseFeatures, Encoded
from .last_blocks import LAST_BLOCKS, LastBlock, LastBlockContext, last_block
from .loading import LoadedCLIP, load_clip, read_state_dict, weights_digest
from .names import Names, load_names
from .text import TextEncoder, encode_text
from .vocabulary import (
    Vocabulary,
    load_classes,
    load_descriptions,
    load_templates,
    parse_names,
)

__all__ = [
    'LAST_BLOCKS',
    'AttentionStatistics',
    'DenseEncoder',
    'DenseFeatures',
    'Encoded',
    'LastBlock',
    'LastBlockContext',
    'LoadedCLIP',
    'Names',
    'TextEncoder',
    'Vocabulary',
    'encode_text',
    'last_block',
    'load_classes',
    'load_clip',
    'load_descriptions',
    'load_names',
    'load_templates',
    'parse_names',
    'read_state_dict',
    'weights_digest',
    *LAST_BLOCKS,
]


def __getattr__(name: str) -> type[LastBlock]:
    """Return a last block by its class name."""
    return getattr(last_blocks, name)
