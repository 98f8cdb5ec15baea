"""The frozen model: loading, dense encoder, last-block policies, text features."""
from .encoder import AttentionStatistics, DenseEncoder, DenseFeatures
from .last_block import OrdinaryLastBlock, SelfOnlyLastBlock
from .loading import LoadedCLIP, load_clip, read_state_dict, weights_digest
from .text import TextEncoder, encode_text
from .vocabulary import Vocabulary, load_templates

__all__ = [
    'AttentionStatistics', 'DenseEncoder', 'DenseFeatures', 'LoadedCLIP', 'OrdinaryLastBlock',
    'SelfOnlyLastBlock', 'TextEncoder', 'Vocabulary', 'encode_text', 'load_clip', 'load_templates',
    'read_state_dict', 'weights_digest',
]
