"""Fixtures of jobs over listings: a few scenes of the demo, and predictors."""

from pathlib import Path

import pytest

pytest.importorskip('pyarrow')

SCENES = Path(__file__).parents[2] / 'demo' / 'data' / 'JPEGImages'
BAD = b'no image'


@pytest.fixture(scope='session')
def scenes():
    """Six scenes of the demo, by their names."""
    return {path.name: path.read_bytes() for path in sorted(SCENES.glob('*.jpg'))[:6]}


@pytest.fixture
def folder(tmp_path, scenes):
    """A folder of them, a damaged image and a file that is no image."""
    place = tmp_path / 'photos'
    place.mkdir()
    for name, content in scenes.items():
        (place / name).write_bytes(content)
    (place / 'bad.jpg').write_bytes(BAD)
    (place / 'notes.mov').write_bytes(b'')
    return place


@pytest.fixture(scope='session')
def tagger():
    """Predicts tags; leave it as it is."""
    from mmtagclip.batch import BatchPredictor

    return BatchPredictor('tagclip_demo', threads=1)


@pytest.fixture(scope='session')
def segmentor():
    """Predicts masks; leave it as it is."""
    from mmtagclip.batch import BatchPredictor

    return BatchPredictor('cls-seg_demo', threads=1)
