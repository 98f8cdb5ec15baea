"""The notebook's cells run, one after the other, and its outputs are there."""

import ast
import json
import subprocess
import sys
from pathlib import Path

NOTEBOOK = Path(__file__).parents[2] / 'demo' / 'tagclip.ipynb'


def cells():
    notebook = json.loads(NOTEBOOK.read_text(encoding='utf-8'))
    assert notebook['nbformat'] == 4
    return [cell for cell in notebook['cells'] if cell['cell_type'] == 'code']


def test_the_cells_run(tmp_path):
    """As a script; the last line of each cell is shown, so it is printed here."""
    script = tmp_path / 'cells.py'
    script.write_text(
        '\n\n'.join(''.join(cell['source']) for cell in cells())
        + '\nprint("tags:", list(tagger(scene)[0].tags), "other:", other.tags)\n'
    )
    process = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert 'zebra' not in process.stdout.split('other:')[1]
    (shown,) = [
        output['data']['text/plain']
        for cell in cells()
        if cell['source'][-1] == 'result.tags'
        for output in cell['outputs']
    ]
    assert f'tags: {list(ast.literal_eval("".join(shown)))} other:' in process.stdout


def test_the_notebook_shows_its_outputs():
    """Made by tools/dev/run_notebook.py; results draw themselves."""
    kinds = [[set(one.get('data', ())) for one in cell['outputs']] for cell in cells()]
    assert all(kinds)
    assert [cell['execution_count'] for cell in cells()] == list(range(1, len(kinds) + 1))
    drawn = [''.join(cell['source']) for cell, kind in zip(cells(), kinds, strict=True)
             if any('image/png' in one for one in kind)]  # fmt: skip
    assert {'result', 'masks'} <= set(drawn)
    assert NOTEBOOK.stat().st_size < 2_500_000
