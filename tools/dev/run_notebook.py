"""Run demo/tagclip.ipynb and write its outputs into it.

Needs the packages nbclient and ipykernel: ``pip install -e '.[onedl,docs]'``.
"""

import argparse
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / 'demo' / 'tagclip.ipynb'


def main() -> None:
    """Run the notebook."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('notebook', nargs='?', type=Path, default=NOTEBOOK)
    path = parser.parse_args().notebook
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, kernel_name='python3', timeout=600).execute()
    for cell in notebook.cells:
        cell.metadata.pop('execution', None)  # times, which differ at each run
        if cell.cell_type != 'code':
            continue
        # What a program says beside its results, such as warnings.
        cell.outputs = [one for one in cell.outputs if one.get('name') != 'stderr']
        for output in cell.outputs:
            picture = output.get('data', {}).get('image/png')
            if picture is not None:  # one form is enough, and the text has this machine's paths
                output.data = {'image/png': picture}
    notebook.metadata = {
        'kernelspec': {'display_name': 'Python 3', 'language': 'python', 'name': 'python3'},
        'language_info': {'name': 'python'},
    }
    nbformat.write(notebook, path)


if __name__ == '__main__':
    main()
