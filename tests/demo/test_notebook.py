"""The notebook's cells run, one after the other."""

import json
import subprocess
import sys
from pathlib import Path

NOTEBOOK = Path(__file__).parents[2] / 'demo' / 'tagclip.ipynb'


def test_the_cells_run(tmp_path):
    """As a script; the last line of each cell is shown, so it is printed here."""
    notebook = json.loads(NOTEBOOK.read_text(encoding='utf-8'))
    assert notebook['nbformat'] == 4
    cells = [cell for cell in notebook['cells'] if cell['cell_type'] == 'code']
    assert all(cell['outputs'] == [] and cell['execution_count'] is None for cell in cells)
    script = tmp_path / 'cells.py'
    script.write_text(
        '\n\n'.join(''.join(cell['source']) for cell in cells)
        + '\nprint("tags:", result.tags, "other:", other.tags)\n'
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
    assert "tags: {'bell': 0.8" in process.stdout
    assert 'zebra' not in process.stdout.split('other:')[1]
