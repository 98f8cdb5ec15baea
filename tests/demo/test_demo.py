"""The demo gives the recorded metrics, row by row, and its pictures."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmtagclip.apis import TagInferencer, load_config
from tests.processes import ROOT, run_script, slow

# Made by demo/run.py and tools/test.py on configs/demo/cls-seg_demo.py. A broken step moves
# a row by more than the margin; round-off does not.
EXPECTED = json.loads((Path(__file__).parent / 'expected.json').read_text())
MARGIN = 0.1


@pytest.fixture(scope='module')
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp('demo')
    subprocess.run(
        [sys.executable, str(ROOT / 'demo/run.py'), '--out', str(folder), '--pictures', '2'],
        check=True,
        timeout=600,
        capture_output=True,
    )
    return folder


@pytest.mark.parametrize('row', ['class_token', 'coarse', 'dmar', 'cwr'])
def test_tags(out, row):
    metrics = json.loads((out / 'metrics.json').read_text())
    assert metrics[row] == pytest.approx(EXPECTED[row], abs=MARGIN)


def test_pictures(out):
    pictures = sorted((out / 'pictures').glob('*.png'))
    assert len(pictures) == 2
    for path in pictures:
        with Image.open(path) as picture:
            assert picture.width == 1200
            assert np.asarray(picture).std() > 20


def metrics(config, work_dir, *options):
    result = work_dir / 'metrics.json'
    process = run_script(
        ROOT / 'tools/test.py',
        ROOT / f'configs/demo/{config}.py',
        '--work-dir',
        work_dir,
        '--out',
        result,
        *options,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(result.read_text())


def test_masks(tmp_path):
    found = metrics('cls-seg_demo', tmp_path)
    assert found['mIoU'] == pytest.approx(EXPECTED['mIoU'], abs=MARGIN)


@slow
def test_the_metric_of_bfloat16(tmp_path):
    found = metrics('tagclip_demo', tmp_path, '--cfg-options', 'model.encoder.dtype=bfloat16')
    assert found['multi-label/mAP'] == pytest.approx(EXPECTED['cwr'], abs=0.3)


def test_bfloat16_tags_as_well():
    """The same tags; a score may differ where CWR takes another candidate."""
    narrow = load_config('tagclip_demo', {'model.encoder.dtype': 'bfloat16'})
    paths = sorted((ROOT / 'demo/data/JPEGImages').glob('*.jpg'))[:10]
    pairs = zip(*(TagInferencer(one)(paths) for one in ('tagclip_demo', narrow)), strict=True)
    apart = []
    for wide, own in pairs:
        assert set(own.tags) == set(wide.tags)
        apart.append(np.abs(own.scores - wide.scores).max())
    assert 0 < np.median(apart) < 0.01


def test_files_are_as_small_as_promised():
    def size(folder):
        return sum(path.stat().st_size for path in (ROOT / folder).rglob('*') if path.is_file())

    assert size('demo/model') < 20e6
    assert size('demo/data') < 6e6
