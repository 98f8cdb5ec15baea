"""``mmtagclip embed`` and ``mmtagclip search``."""

import csv
import json
import re
import shutil

import pytest

from mmtagclip import cli
from tests.processes import ROOT

SCENES = ROOT / 'demo' / 'data' / 'JPEGImages'


def mmtagclip(*words):
    return cli.main([str(word) for word in words])


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp('photos')
    for name in ('000003', '000006', '000040'):
        shutil.copy(SCENES / f'{name}.jpg', folder)
    (folder / 'clip.mov').write_bytes(b'x')
    return folder


@pytest.fixture(scope='module')
def file(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp('embedded') / 'a.safetensors'
    assert mmtagclip('embed', photos, '--model', 'tagclip_demo', '--out', out, '--quiet') == 0
    return out


def test_a_text_finds_images(file, capsys):
    assert mmtagclip('search', 'bell', '--in', file, '--top', 2) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [re.fullmatch(r'-?0\.\d{3}  .*/(\d+)\.jpg', line)[1] for line in lines] == [
        '000006',
        '000040',
    ]
    assert mmtagclip('search', '--image', SCENES / '000040.jpg', '--in', file, '--top', 1) == 0
    said = capsys.readouterr()
    assert said.out.endswith('000040.jpg\n')
    assert 'pictograms' not in said.err


def test_an_image_finds_itself(file, photos, tmp_path, capsys):
    for name in ('a.json', 'a.csv'):
        options = ['--in', file, '--out', tmp_path / name]
        assert mmtagclip('search', '--image', photos / '000003.jpg', *options) == 0
        assert f'mmtagclip embed IMAGES --out {file} --download\n' in capsys.readouterr().err
    rows = json.loads((tmp_path / 'a.json').read_text())
    assert rows[0] == {'image': str(photos / '000003.jpg'), 'score': pytest.approx(1, abs=1e-5)}
    with (tmp_path / 'a.csv').open() as text:
        table = list(csv.DictReader(text))
    assert [{'image': row['image'], 'score': float(row['score'])} for row in table] == rows


def test_what_could_not_be_read_is_said(photos, tmp_path, capsys):
    broken = tmp_path / 'broken.jpg'
    broken.write_text('no image')
    out = tmp_path / 'a.safetensors'
    words = ['embed', photos, broken, '--model', 'tagclip_demo', '--out', out, '--max-side', 64]
    assert mmtagclip(*words) == 1
    error = capsys.readouterr().err
    assert f'could not read: {broken} is not an image' in error
    assert '1 file was not read: 1 .mov' in error
    assert f'embeddings of 3 images in {out}' in error
    assert f'mmtagclip embed {photos} {broken} --out {out} --download\n' in error  # no pictograms
    assert mmtagclip('search', 'bell', '--in', out, '--model', 'cls-seg_demo') == 0


def test_the_demo_s_scenes_need_no_notice(tmp_path, capsys):
    scene, out = SCENES / '000040.jpg', tmp_path / 'a.safetensors'
    assert mmtagclip('embed', scene, '--model', 'tagclip_demo', '--out', out) == 0
    error = capsys.readouterr().err
    assert 'embeddings of 1 images' in error
    assert 'pictograms' not in error


@pytest.mark.parametrize(
    'words, message',
    [
        (['embed', 'PHOTOS', '--out', 'a.npy'], r'--out must end in .parquet or .safetensors'),
        (['embed', 'PHOTOS', '--out', 'FILE'], 'exists already; add --overwrite'),
        (['embed', 'gone.jpg', '--out', 'a.safetensors'], 'no image or folder at gone.jpg'),
        (['search', '--in', 'FILE'], 'give a text or --image FILE'),
        (['search', 'a', '--image', 'b.jpg', '--in', 'FILE'], 'give a text or --image FILE'),
        (['search', 'a', '--in', 'FILE', '--top', '0'], '--top must be at least 1'),
        (['search', 'a', '--in', 'FILE', '--out', 'a.txt'], '--out must end in .json or .csv'),
        (['search', 'a', '--in', 'gone.parquet'], 'there is no file gone.parquet'),
        (['search', 'a', '--in', 'FILE', '--device', 'toaster'], "'toaster' can not be used"),
        (['embed', 'PHOTOS', '--out', 'b.parquet', '--device', 'meta'], "'meta' can not be used"),
        (['search', '--image', 'gone.jpg', '--in', 'FILE'], 'no image at gone.jpg'),
    ],
)
def test_what_is_wrong_is_said_in_one_line(words, message, file, photos, capsys):
    words = [{'FILE': file, 'PHOTOS': photos}.get(word, word) for word in words]
    assert mmtagclip(*words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith('mmtagclip: error: ')
    assert error.count('\n') == 1
