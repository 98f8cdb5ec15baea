"""The frozen model: loading, dense encoder, last-block policies, text features."""

from .encoder import AttentionStatistics, DenseEncoder, DenseFeatures
from .last_block import (
    ClearCLIPLastBlock,
    ITACLIPLastBlock,
    LastBlock,
    LastBlockContext,
    NACLIPLastBlock,
    OrdinaryLastBlock,
    SCLIPLastBlock,
    SelfOnlyLastBlock,
)
from .loading import LoadedCLIP, load_clip, read_state_dict, weights_digest
from .sc_clip import SCCLIPLastBlock
from .text import TextEncoder, encode_text
from .vocabulary import Vocabulary, load_descriptions, load_templates

__all__ = [
    'AttentionStatistics',
    'ClearCLIPLastBlock',
    'DenseEncoder',
    'DenseFeatures',
    'ITACLIPLastBlock',
    'LastBlock',
    'LastBlockContext',
    'LoadedCLIP',
    'NACLIPLastBlock',
    'OrdinaryLastBlock',
    'SCCLIPLastBlock',
    'SCLIPLastBlock',
    'SelfOnlyLastBlock',
    'TextEncoder',
    'Vocabulary',
    'encode_text',
    'load_clip',
    'load_descriptions',
    'load_templates',
    'read_state_dict',
    'weights_digest',
]
