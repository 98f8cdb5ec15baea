"""The comparison of CAMs, on one of the demo's scenes."""

import importlib.util
import json

import numpy as np
import pytest

from tests.processes import ROOT

SCRIPT = ROOT / 'tools/analysis_tools/compare_cams.py'


@pytest.fixture
def module():
    spec = importlib.util.spec_from_file_location('compare_cams', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_cells_are_mean_intersections_over_union(module):
    cells = module.Cells(3)
    truth = np.array([[0, 0, 1], [1, 255, 1]])
    cells.add(('row', 'own tags', 'none'), np.array([[0, 1, 1], [1, 2, 0]]), truth)
    # Background: 1 of 3 pixels; class 1: 2 of 4; class 2 occurs nowhere.
    assert cells.results()['mIoU'] == {'row': {'own tags': {'none': 41.7}}}


def test_one_scene(module, monkeypatch, tmp_path, capsys):
    """Two rows, one of which asks the encoder for more; true tags do not need the tagger's."""
    rows = list(module.CAMS)
    monkeypatch.setattr(module, 'CAMS', {row: module.CAMS[row] for row in (rows[0], rows[-1])})
    monkeypatch.setattr(module, 'POSTS', {'none': None, 'PAMR': 'PAMR'})
    out = tmp_path / 'new' / 'cams.json'
    monkeypatch.setattr('sys.argv', ['compare_cams.py', '--out', str(out), '--images', '1'])
    module.main()
    results = json.loads(out.read_text())
    assert results['images'] == 1
    assert set(results['seconds']) == {'encoder', 'tags', 'PAMR', *module.CAMS}
    values = []
    for row in module.CAMS:
        for tags in module.TAGS:
            cells = results['mIoU'][row][tags]
            assert all(0 < value < 100 for value in cells.values())
            values += cells.values()
    assert len(set(values)) > 4
    assert f'| {rows[0]} | ' in capsys.readouterr().out
