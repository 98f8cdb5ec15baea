"""The frozen CLIP: loading, dense encoder, last blocks, text features.

Each name is imported on first use: class names need no torch.
"""

from typing import TYPE_CHECKING, Any

from ..lazy import lazy_names

if TYPE_CHECKING:
    from .descriptions import Described, Descriptions, cluster, enrich
    from .encoder import AttentionStatistics, DenseEncoder, DenseFeatures, Encoded
    from .last_blocks import (
        LAST_BLOCKS,
        PADDING,
        Companions,
        LastBlock,
        LastBlockContext,
        Prepared,
        Start,
        Streams,
        last_block,
    )
    from .loading import LoadedCLIP, load_clip, read_state_dict, weights_digest
    from .names import Names, load_names
    from .pooling import LearntPooling
    from .text import TextEncoder, encode_text
    from .vocabulary import (
        Vocabulary,
        load_classes,
        load_descriptions,
        load_labels,
        load_templates,
        parse_names,
    )

__all__ = [
    'LAST_BLOCKS',
    'PADDING',
    'AttentionStatistics',
    'Companions',
    'DenseEncoder',
    'DenseFeatures',
    'Described',
    'Descriptions',
    'Encoded',
    'LastBlock',
    'LastBlockContext',
    'LearntPooling',
    'LoadedCLIP',
    'Names',
    'Prepared',
    'Start',
    'Streams',
    'TextEncoder',
    'Vocabulary',
    'cluster',
    'encode_text',
    'enrich',
    'last_block',
    'load_classes',
    'load_clip',
    'load_descriptions',
    'load_labels',
    'load_names',
    'load_templates',
    'parse_names',
    'read_state_dict',
    'weights_digest',
]
_get, __dir__ = lazy_names(
    __name__,
    {
        '.descriptions': ('Described', 'Descriptions', 'cluster', 'enrich'),
        '.encoder': ('AttentionStatistics', 'DenseEncoder', 'DenseFeatures', 'Encoded'),
        '.last_blocks': (
            'LAST_BLOCKS',
            'PADDING',
            'Companions',
            'LastBlock',
            'LastBlockContext',
            'Prepared',
            'Start',
            'Streams',
            'last_block',
        ),
        '.loading': ('LoadedCLIP', 'load_clip', 'read_state_dict', 'weights_digest'),
        '.names': ('Names', 'load_names'),
        '.pooling': ('LearntPooling',),
        '.text': ('TextEncoder', 'encode_text'),
        '.vocabulary': (
            'Vocabulary',
            'load_classes',
            'load_descriptions',
            'load_labels',
            'load_templates',
            'parse_names',
        ),
    },
)


def __getattr__(name: str) -> Any:
    """Import a name on its first use; a last block is found by its class name."""
    if name.endswith('LastBlock') and name not in __all__:
        from . import last_blocks

        return getattr(last_blocks, name)
    return _get(name)
