"""Every part keeps its options under their names, for code that reads what a part is."""

import inspect
from copy import deepcopy

import pytest
import torch

import mmtagclip.models  # noqa: F401, which registers the parts
from mmtagclip.registry import MODELS
from tests.regions.test_bank import write
from tests.regions.test_references import write_references
from tests.sam import last_block_config, sam_config

# What frameworks set and nothing reads, and where weights come from, which their digest tells.
ELSEWHERE = {'pretrained', 'train_cfg', 'test_cfg', 'model', 'checkpoint', 'quick_gelu', 'download'}
SCORER = {'type': 'mmtagclip.GaussianClassifier'}
HEAD = {'type': 'mmtagclip.SegTextHead', 'classes': ['a'], 'templates': ['{}']}
AFFINITY = {'type': 'mmtagclip.AffinityRefinement', 'layers': (8,), 'box_threshold': 0.4}
# Parts that are built otherwise: last blocks and what they look at, and test-time augmentation.
MODELS.import_all()
PARTS = sorted(
    name
    for name, part in MODELS.module_dict.items()
    if part.__module__.startswith('mmtagclip.models') and not name.endswith('TTA')
)


@pytest.mark.parametrize('name', PARTS)
def test_options_are_attributes(name, encoder_config, sam3_config, tmp_path):
    if name == 'DenseCRF':
        pytest.importorskip('pydensecrf')
    tagger = {
        'type': 'mmtagclip.TagCLIP',
        'encoder': encoder_config,
        'head': {'type': 'mmtagclip.TagCLIPHead'},
        'classes': ['a'],
        'templates': ['{}'],
    }
    needed = {
        'HypernymContext': {'words': {'a': ['b']}},
        'MarginBackground': {'threshold': 0.4},
        'MaximumBackground': {'threshold': 0.4},
        'Sam3': sam3_config,
        'ConceptSegmentor': {'sam3': sam3_config, 'classes': ['a']},
        'CLIPEncoder': encoder_config,
        'TagCLIP': tagger,
        'SegTextHead': HEAD,
        'AffinityRefinement': AFFINITY,
        'DMAR': {'layers': (8,)},
        'PIAAHead': {'scorer': SCORER},
        'CLSSeg': {'tagger': tagger, 'affinity': AFFINITY, 'templates': ['{}']},
        'DirectSegmentor': {'encoder': encoder_config, 'head': HEAD},
        'PoolingTrainer': {
            'encoder': {**encoder_config, 'pooling': {'type': 'mmtagclip.LearntPooling'}}
        },
    }
    if name == 'BankProcessor':
        vectors = torch.eye(4)
        needed[name] = {'bank': write(tmp_path / 'bank.safetensors', vectors, vectors)}
    if name == 'SAMGatherer':
        needed[name] = {'sam': sam_config(tmp_path)}
    if name == 'ReferenceProcessor':
        bank = write_references(tmp_path / 'references.safetensors')
        needed[name] = {'bank': bank, 'source': last_block_config(tmp_path)['source']}
    if name in ('RegionEncoder', 'ReferenceEncoder'):
        source = last_block_config(tmp_path)['source']
        needed[name] = {'encoder': encoder_config, 'source': source}
    part = MODELS.build({**deepcopy(needed.get(name, {})), 'type': f'mmtagclip.{name}'})
    options = set(inspect.signature(type(part)).parameters) - ELSEWHERE
    assert {option for option in options if not hasattr(part, option)} == set()
