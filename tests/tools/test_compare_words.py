"""The table of ways to name classes, and its control."""

import importlib.util
import json

import numpy as np
import pytest
import torch

from tests.golden import GOLDEN
from tests.processes import ROOT, run_script

SCRIPT = ROOT / 'tools/analysis_tools/compare_words.py'
RECIPE = json.loads((GOLDEN / 'words/recipe.json').read_text())


@pytest.fixture(scope='module')
def tool():
    spec = importlib.util.spec_from_file_location('compare_words', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_control_is_the_released_one(tool):
    descriptors = [one for texts in RECIPE['descriptors'].values() for one in texts]
    random = np.random.RandomState(0)
    clauses = tool.waffle(RECIPE['classes'], descriptors, RECIPE['words'], 3, random)
    released = json.loads((GOLDEN / 'words/waffle_prompts.json').read_text())['waffle']
    for name, prompts in released.items():
        spoken = name.replace('_', ' ')
        assert [f'A photo of a {spoken}, {one}.' for one in clauses] == prompts


def test_figures(tool):
    """Two classes of which one is always found, and another tag at the first image."""
    pred = torch.tensor([[0.9, 0.5], [0.8, 0.1]])
    target = torch.tensor([[True, False], [True, False]])
    assert tool.figures(pred, target, 0.3) == pytest.approx((50, 100))
    both = torch.tensor([[True, True], [True, False]])
    assert tool.figures(pred, both, 0.3) == pytest.approx((100, 80))


def test_a_row_for_each_way(tmp_path):
    said = ROOT / 'demo/data/descriptions.json'
    process = run_script(
        SCRIPT,
        ROOT / 'configs/demo/tagclip_demo.py',
        '--images=3',
        '--rounds=2',
        f'--descriptions={said}',
        f'--compound={ROOT}/demo/data/compound.txt',
        f'--auto={ROOT}/demo/data/classes.txt',
        '--cfg-options',
        'model.templates=templates_photo',
        f'model.encoder.text_cache={tmp_path}',
    )
    assert process.returncode == 0, process.stderr
    lines = [line for line in process.stdout.splitlines() if line.startswith('|')]
    assert lines[0] == '| | coarse: mAP | F1 | TagCLIP: mAP | F1 | PIAA: mAP | F1 |'
    joins = [f'descriptions, {one}' for one in ('mean', 'unit', 'max', 'reweight', 'tse')]
    rows = {line.split(' | ')[0].strip('| '): line for line in lines[2:11]}
    assert list(rows) == [
        *('plain names', *joins, 'control (Waffle)'),
        *('plain names, SPARC', 'plain names, SPARC with compound prompts'),
    ]
    cells = [[float(one) for one in row.strip('| ').split(' | ')[1:]] for row in rows.values()]
    assert np.isfinite(cells).all()
    assert len({tuple(row) for row in cells}) > 3
    assert lines[11] == '| names of | true tags among the 10 nearest names | 20 | 50 |'
    assert lines[13].endswith('| 100.0 |')
