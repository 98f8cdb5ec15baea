"""The recorded walk over open_clip's catalogue, and a live one over each family."""

import importlib.util
import json

import open_clip
import pytest

from tests.processes import ROOT

_path = ROOT / 'tools/dev/open_clip_catalogue.py'
_spec = importlib.util.spec_from_file_location('open_clip_catalogue', _path)
catalogue = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(catalogue)
RECORD = json.loads(catalogue.RECORD.read_text())
# The smallest of each family, and what is refused.
SOME = (
    'ViT-B-32',
    'ViT-L-14-CLIPA',
    'ViT-B-32-SigLIP2-256',
    'MobileCLIP-B',
    'ViTamin-S',
    'EVA02-B-16',
    'EVA02-E-14',
    'PE-Core-T-16-384',
    'convnext_tiny',
    'MobileCLIP2-S0',
    'RN50',
    'roberta-ViT-B-32',
    'coca_ViT-B-32',
    'swin_base_patch4_window7_224',
)


def test_the_record():
    assert RECORD['architectures'] == [138, 144]
    assert RECORD['tags'] == [192, 196]
    refused = [name for name, why in RECORD['refused'].items() if why]
    assert refused == [
        'coca_base',
        'coca_roberta-ViT-B-32',
        'coca_ViT-B-32',
        'coca_ViT-L-14',
        'swin_base_patch4_window7_224',
        'vit_relpos_medium_patch16_cls_224',
    ]
    if open_clip.__version__ == RECORD['open_clip']:
        assert set(RECORD['refused']) == set(open_clip.list_models())


@pytest.mark.parametrize('name', SOME)
def test_one_of_each_family(name):
    if name not in open_clip.list_models():
        pytest.skip('an older open_clip')
    assert catalogue.walk([name]) == {name: RECORD['refused'][name]}


def test_what_is_lost_is_said():
    before = {'a': None, 'b': None, 'c': None, 'd': 'why'}
    now = {'a': None, 'b': 'because', 'd': 'why'}
    assert catalogue.lost(before, now) == ['b: because', 'c: open_clip has it no more']
    assert catalogue.lost(before, before) == []
