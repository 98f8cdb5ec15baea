"""The pictures of the docs that need neither a model nor a browser."""

import importlib.util

import numpy as np
import pytest
from PIL import Image

from tests.processes import ROOT


@pytest.fixture
def script(tmp_path, monkeypatch):
    """The script, which writes elsewhere."""
    path = ROOT / 'tools/dev/make_pictures.py'
    spec = importlib.util.spec_from_file_location('make_pictures', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, 'OUT', tmp_path)
    return module


def test_the_diagram_is_what_the_script_draws(script):
    (path,) = script.PICTURES['method']()
    assert path.read_bytes() == (ROOT / 'docs/pictures/method.svg').read_bytes()


def test_a_picture_is_saved_at_its_width(script):
    pixels = np.zeros((30, 60, 3), np.uint8)
    pixels[..., 0] = 200
    path = script.save('a', Image.fromarray(pixels), 20)
    with Image.open(path) as image:
        assert (path.name, image.format, image.size) == ('a.jpg', 'JPEG', (20, 10))
        assert np.abs(np.array(image).astype(int) - (200, 0, 0)).max() < 5


def test_each_picture_of_the_docs_has_its_maker(script):
    made = {path.stem.partition('_')[0] for path in (ROOT / 'docs/pictures').iterdir()}
    assert made == set(script.PICTURES)
