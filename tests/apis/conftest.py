import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCENES = ROOT / 'demo' / 'data' / 'JPEGImages'


@pytest.fixture
def photos(tmp_path):
    """A folder with three scenes, one of them in a folder below, and a file that is no image."""
    folder = tmp_path / 'photos'
    (folder / 'more').mkdir(parents=True)
    for name, target in {'000040': 'b.jpg', '000003': 'a.JPG', '000001': 'more/c.jpg'}.items():
        shutil.copy(SCENES / f'{name}.jpg', folder / target)
    (folder / 'notes.txt').write_text('no image')
    return folder
