"""The comparison of encoders, on a few of the demo's scenes."""

import argparse
import importlib.util
import json
import sys

import numpy as np
import pytest

from mmtagclip.registry import MODELS
from tests.processes import ROOT, run, run_script, slow

SCRIPT = ROOT / 'tools/analysis_tools/compare_encoders.py'
TAGS = {'class token', 'coarse', '+DMAR', '+DMAR+CWR', 'PIAA', 'PIAA+DMAR+CWR'}
MASKS = {'direct', 'tag-guided', 'CLS-SEG'}
SOME = ('--images', '60', '--encoders', 'NACLIP', '--kinds', 'encoders')


@pytest.fixture(scope='module')
def compared(tmp_path_factory):
    out = tmp_path_factory.mktemp('compared') / 'new' / 'encoders.json'
    process = run(sys.executable, SCRIPT, '--out', out, *SOME, OMP_NUM_THREADS='1')
    assert process.returncode == 0, process.stderr
    return out, process.stdout


@slow
def test_every_cell_is_there(compared):
    out, printed = compared
    results = json.loads(out.read_text())
    assert set(results['tags']['NACLIP']) == TAGS
    assert set(results['masks']['NACLIP']) == MASKS
    for kind, key in (('tags', 'mAP'), ('masks', 'mIoU')):
        for cell in results[kind]['NACLIP'].values():
            assert 0 < cell[key] < 100
            assert cell['seconds'] > 0
    best = max(cell['mAP'] for cell in results['tags']['NACLIP'].values())
    assert f'**{best:.1f}**' in printed


@slow
def test_it_goes_on_where_it_stopped(compared):
    out, _ = compared
    before = json.loads(out.read_text())
    shortened = json.loads(out.read_text())
    del shortened['masks']['NACLIP']['direct']
    out.write_text(json.dumps(shortened))
    process = run_script(SCRIPT, '--out', out, *SOME)
    assert process.returncode == 0, process.stderr
    after = json.loads(out.read_text())
    assert after['tags'] == before['tags']
    assert after['masks']['NACLIP']['direct']['mIoU'] == before['masks']['NACLIP']['direct']['mIoU']
    assert process.stdout.count('NACLIP, ') == 1


@pytest.fixture(scope='module')
def module():
    spec = importlib.util.spec_from_file_location('compare_encoders', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_piaa_is_fitted_in_float32_and_scored_in_any_dtype(module, tmp_path, monkeypatch):
    fitted, scored = [], []

    class Runner:
        from_cfg = classmethod(lambda cls, cfg: fitted.append(cfg) or cls())

        def train(self):
            (tmp_path / fitted[-1].train_cfg.out_file).touch()

    monkeypatch.setattr(module, 'Runner', Runner)
    monkeypatch.setattr(module, 'test', lambda cfg, key: scored.append(cfg) or {key: 50.0})
    module.cells(
        {'tags': {}, 'masks': {}},
        argparse.Namespace(
            out=tmp_path / 'out.json',
            encoders=['SCLIP'],
            dtype='bfloat16',
            images=60,
            kinds=['encoders'],
        ),
        tmp_path,
    )
    assert [cfg.model.encoder.dtype for cfg in fitted] == ['float32']
    assert len(scored) == len(TAGS) + len(MASKS)
    encoders = [cfg.model.get('encoder') or cfg.model.tagger.encoder for cfg in scored]
    assert {encoder.dtype for encoder in encoders} == {'bfloat16'}
    assert sum(cfg.load_from == f'{tmp_path}/0.pth' for cfg in scored) == 2


def test_cells_of_the_table_of_regions(module, tmp_path, monkeypatch):
    """CorrCLIP and a bank with regions, the others without or with map correction."""
    found = []
    monkeypatch.setattr(module, 'make_bank', lambda kind, *_: tmp_path / kind)
    monkeypatch.setattr(module, 'make_regions', lambda folder: None)
    monkeypatch.setattr(module, 'test', lambda cfg, key: found.append(cfg) or {key: len(found)})
    args = argparse.Namespace(
        out=tmp_path / 'out.json', dtype='float32', images=60, kinds=['regions'], encoders=()
    )
    results = {'tags': {}, 'masks': {}, 'regions': {}}
    module.cells(results, args, tmp_path)
    corrected = {'objects, map correction', 'colours, map correction'}
    assert [set(row) for row in results['regions'].values()] == [
        *[{'no regions', *corrected}] * 2,
        *[{'objects', 'colours', *corrected}] * 3,
    ]
    cells = [(row, column) for row, cells in results['regions'].items() for column in cells]
    for (row, column), cfg in zip(cells, found, strict=True):
        steps = [step['type'] for step in cfg.test_dataloader.dataset.pipeline]
        assert ('mmtagclip.LoadRegions' in steps) == (column != 'no regions')
        assert ('label_processor' in cfg.model) == ('map correction' in column)
        last_block = cfg.model.encoder.get('last_block', {}).get('type', '')
        assert ('CorrCLIP' in last_block) == ('CorrCLIP' in row)
        bank = cfg.model.get('cosine_processor', {}).get('bank')
        assert bank == (str(tmp_path / column.split(',')[0]) if 'bank' in row else None)
    again = len(found)
    module.cells(results, args, tmp_path)
    assert len(found) == again
    args.images, results['regions'] = None, {}  # no scene is left for a bank
    module.cells(results, args, tmp_path)
    assert list(results['regions']) == list(module.SOURCES)


def test_a_bank_is_made_of_the_other_scenes(module, tmp_path, monkeypatch):
    """Two of 120, as files of the regions that the processor then finds in the bank."""
    from mmtagclip.regions.bank import MemoryBank

    scenes = sorted((ROOT / 'demo/data/JPEGImages').iterdir())[-2:]
    (tmp_path / 'objects').mkdir()
    for scene in scenes:
        image = module.read_image(scene)
        ids = np.ones(image.shape[:2], np.uint8)
        ids[:20] = 2
        module.write_image(tmp_path / 'objects' / f'{scene.stem}.png', ids)
    args = argparse.Namespace(dtype='float32', images=118)
    cfg = module.load_regions(module.BANK, 'objects', tmp_path, args)
    bank = MemoryBank(cfg.model.cosine_processor.bank)
    assert [path.rpartition('/')[2] for path in bank.images] == [one.name for one in scenes]
    assert len(bank) == 4
    MODELS.build(cfg.model)  # which refuses a bank of another encoder or source


def test_further_rows_of_masks(module, tmp_path, monkeypatch):
    found, made = [], []
    monkeypatch.setattr(module, 'test', lambda cfg, key: found.append(cfg) or {key: len(found)})
    monkeypatch.setattr(module, 'load_reference_encoder', lambda config: None)

    def make(model, scenes, bank, *rest, **more):
        made.append(bank)
        bank.touch()

    monkeypatch.setattr(module, 'build_references', make)
    args = argparse.Namespace(
        out=tmp_path / 'out.json', dtype='float32', images=60, kinds=['further'], encoders=()
    )
    results = {'tags': {}, 'masks': {}, 'regions': {}}
    module.cells(results, args, tmp_path)
    assert [set(row) for row in results['masks'].values()] == [
        {'direct', 'tag-guided'},
        {'CLS-SEG'},
        {'CLS-SEG'},
    ]
    assert [cfg.model.get('cosine_processor', {}).get('bank') for cfg in found] == [
        *[str(tmp_path / 'references.safetensors')] * 2,
        *[None] * 2,
    ]
    assert made == [tmp_path / 'references.safetensors']
    maps = [cfg.model.get('cam', {}).get('type') for cfg in found]
    assert maps == [None, None, *['mmtagclip.SurgeryCAM'] * 2]
    assert found[3].model.cam.last_block.type == 'mmtagclip.SVCLastBlock'


def test_regions_of_a_mask_are_its_connected_areas(module):
    labels = np.array([[0, 0, 7, 0], [7, 7, 7, 0], [255, 3, 3, 7]])
    ids = module.object_regions(labels)
    assert ids.tolist() == [[1, 1, 4, 2], [4, 4, 4, 2], [0, 3, 3, 4]]


def test_a_file_of_other_settings_is_refused(tmp_path):
    out = tmp_path / 'encoders.json'
    out.write_text(json.dumps({'images': 60, 'dtype': 'float32', 'tags': {}, 'masks': {}}))
    process = run_script(SCRIPT, '--out', out, *SOME, '--dtype', 'bfloat16')
    assert process.returncode == 2
    assert 'was made with other settings' in process.stderr
