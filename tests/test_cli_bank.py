"""``mmtagclip bank``: resumed, in parts, and what it says of bad files."""

import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mmtagclip import cli
from mmtagclip.apis import build_bank, load_region_encoder
from mmtagclip.files import write_image
from mmtagclip.images import read_image
from mmtagclip.jobs.runner import Manifest
from mmtagclip.models import RegionEncoder
from mmtagclip.regions import read_regions
from mmtagclip.regions.bank import MemoryBank
from tests.golden.weights import region_map, smooth_image
from tests.regions.conftest import SMALL, vit

NAMES = ('a', 'b', 'ü')


def mmtagclip(*words):
    return cli.main([str(word) for word in words])


@pytest.fixture(scope='module')
def config(tmp_path_factory, encoder_config):
    """The config of a small RegionEncoder."""
    folder = tmp_path_factory.mktemp('config')
    save_file(vit(16).state_dict(), folder / 'vit.safetensors')
    source = {
        'type': 'mmtagclip.TimmFeatures',
        'model': 'vit_tiny_patch16_224',
        'checkpoint': str(folder / 'vit.safetensors'),
        'kwargs': {'patch_size': 16, **SMALL},
    }
    last_block = {'type': 'mmtagclip.CorrCLIPLastBlock', 'source': source, 'merge': False}
    model = {
        'type': 'mmtagclip.RegionEncoder',
        'encoder': {**encoder_config, 'last_block': last_block},
        'source': source,
        'windows': {'type': 'mmtagclip.SlidingWindows', 'size': 64, 'stride': 32, 'pad_to': 32},
        'side': 64,
    }
    path = folder / 'small.py'
    path.write_text(f'model = {model!r}\n')
    return path


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Three images, with their regions as PNG."""
    folder = tmp_path_factory.mktemp('data')
    for number, name in enumerate(NAMES):
        size = 48 + 8 * number, 72
        write_image(folder / 'images' / f'{name}.png', smooth_image(*size, number))
        ids = region_map(*size, number, 4, 1)
        write_image(folder / 'regions' / f'{name}.png', ids.astype(np.uint8))
    return folder


@pytest.fixture(scope='module')
def model(config):
    return load_region_encoder(str(config), 'cpu')


@pytest.fixture
def built_once(model, monkeypatch):
    """The command takes the model that is there."""
    monkeypatch.setattr('mmtagclip.apis.banks.load_region_encoder', lambda *_, **__: model)


@pytest.fixture(scope='module')
def bank(data, config, tmp_path_factory):
    out = tmp_path_factory.mktemp('bank') / 'a.safetensors'
    words = ['--regions', data / 'regions', '--model', config, '--out', out, '--quiet']
    assert mmtagclip('bank', data / 'images', *words) == 0
    return out


def test_the_rows_are_those_of_the_images(bank, data, model):
    found = MemoryBank(bank)
    assert [path.rpartition('/')[2] for path in found.images] == [f'{name}.png' for name in NAMES]
    assert [one.name for one in bank.parent.iterdir()] == ['a.safetensors']
    row = 0
    for number, name in enumerate(NAMES):
        pixels = read_image(data / 'images' / f'{name}.png')
        ids, keys, values = model(pixels, read_regions(data / 'regions' / f'{name}.png'))
        for one, key, value in zip(ids.tolist(), keys, values, strict=True):
            assert found.origin(row) == (number, one)
            place = torch.tensor([row])
            torch.testing.assert_close(found.values(place)[0], value, atol=1e-3, rtol=0)
            assert found.search(key[None], 1).item() == row
            row += 1
    assert row == len(found) > 6
    found.check_encoder(model.encoder)
    found.check_source(model.source)
    assert found.facts['settings']['windows']['size'] == 64


def test_other_rows_of_the_same_regions_are_told_apart(data, model, tmp_path):
    shutil.copytree(data / 'images', tmp_path / 'images')
    facts = []
    for changed in (False, True):
        image = tmp_path / 'images' / f'{NAMES[0]}.png'
        if changed:
            write_image(image, 255 - read_image(image))
        out = tmp_path / f'{changed}.safetensors'
        build_bank(model, image, data / 'regions', out, show_progress=False)
        facts.append(MemoryBank(out).facts)
    assert {key for key in facts[0] if facts[0][key] != facts[1][key]} == {'content'}


@pytest.mark.usefixtures('built_once')
def test_parts_make_the_same_file_and_resume(bank, data, config, tmp_path, monkeypatch, capsys):
    out = tmp_path / 'b.safetensors'
    words = ['bank', data / 'images', '--regions', data / 'regions', '--model', config]
    words += ['--out', out]
    with monkeypatch.context() as patch:
        patch.setattr(RegionEncoder, 'forward', interrupted(RegionEncoder.forward, 1))
        assert mmtagclip(*words, '--shard', '0/2') == 130
    assert mmtagclip(*words, '--shard', '1/2') == 0
    assert 'share 1/2 is done; others are not yet' in capsys.readouterr().err
    assert not out.exists()
    with pytest.raises(FileNotFoundError, match='is not finished: run mmtagclip bank'):
        MemoryBank(out)
    assert Manifest.load(tmp_path / 'b.safetensors.unfinished').kind == 'memory bank'
    counted = interrupted(RegionEncoder.forward, 9)
    monkeypatch.setattr(RegionEncoder, 'forward', counted)
    assert mmtagclip(*words, '--shard', '0/2') == 0
    assert counted.calls == [None]  # one of two was done
    assert out.read_bytes() == bank.read_bytes()
    assert [one.name for one in tmp_path.iterdir()] == ['b.safetensors']


def interrupted(forward, after):
    def call(self, *args):
        if len(call.calls) == after:
            raise KeyboardInterrupt
        call.calls.append(None)
        return forward(self, *args)

    call.calls = []
    return call


@pytest.mark.usefixtures('built_once')
def test_images_without_good_regions_are_named(data, config, model, tmp_path, capsys):
    regions = tmp_path / 'regions'
    shutil.copytree(data / 'regions', regions)
    (regions / f'{NAMES[0]}.png').unlink()
    write_image(regions / f'{NAMES[1]}.png', np.ones((4, 5), np.uint8))
    out = tmp_path / 'a.safetensors'
    words = ['bank', data / 'images', '--regions', regions, '--model', config, '--out', out]
    assert mmtagclip(*words, '--dtype', 'float32') == 1
    error = capsys.readouterr().err
    assert f'left out: {regions} has no image with the name of {data}/images/a.png' in error
    assert 'its regions in' in error
    assert 'are 5x4: they belong to another image' in error
    assert f'3 regions of 1 images in {out}' in error
    found = MemoryBank(out)
    assert (found.facts['dtype'], len(found.facts['errors'])) == ('float32', 2)
    with pytest.raises(ValueError, match='has no image with the name'):
        build_bank(
            model, data / 'images', regions, tmp_path / 'c.safetensors',
            on_error='raise', show_progress=False,
        )  # fmt: skip
    write_image(regions / f'{NAMES[2]}.png', np.zeros((9, 9), np.uint8))
    with pytest.raises(ValueError, match='not one image has a region: '):
        build_bank(
            model, data / 'images', regions, out, replace=True, show_progress=False
        )  # fmt: skip


def test_an_index_of_a_bank_that_is_there(bank, tmp_path, capsys):
    pytest.importorskip('faiss', reason='FAISS is not installed')
    out = tmp_path / 'a.safetensors'
    shutil.copy(bank, out)
    words = ['bank', 'gone', '--regions', 'gone', '--out', out, '--faiss']
    assert mmtagclip(*words) == 2  # too few for the published index
    assert 'FAISS can not make such an index of' in capsys.readouterr().err


@pytest.mark.parametrize(
    'words, message',
    [
        (['--out', 'a.npz'], '--out must end in .safetensors, not a.npz'),
        (['--out', 'BANK'], 'exists already; add --overwrite to replace it'),
        (['--shard', '2/2'], "--shard must be I/N with 0 <= I < N, such as 0/4, not '2/2'"),
        (['--shard', '1/2', '--overwrite'], '--overwrite does not go with --shard'),
        (['--regions', 'gone'], '--regions: there is nothing at gone; mmtagclip regions'),
        (['--model', 'OTHER'], 'is made by a RegionEncoder, not by a SlidingWindows: name'),
        (['--regions', 'CONFIG'], 'is no COCO file of masks'),
    ],
)
def test_what_is_wrong_is_said_in_one_line(words, message, bank, data, config, tmp_path, capsys):
    usual = ['--out', tmp_path / 'n.safetensors', '--regions', data / 'regions', '--model', config]
    other = tmp_path / 'other.py'
    other.write_text("model = {'type': 'mmtagclip.SlidingWindows'}\n")
    known = {'BANK': bank, 'CONFIG': config, 'OTHER': other}
    words = [known.get(word, word) for word in words]
    assert mmtagclip('bank', data / 'images', *usual, *words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith('mmtagclip: error: ')
    assert error.count('\n') == 1


def test_options_of_the_function_are_checked(data, model, tmp_path):
    out = tmp_path / 'a.safetensors'
    for more, message in [
        ({'dtype': 'int8'}, 'dtype must be one of float16, float32'),
        ({'shard': (2, 2)}, r'shard must be \(index, count\)'),
        ({'shard': (0, 2), 'replace': True}, 'shards can not replace'),
        ({'on_error': 'stop'}, "on_error must be 'raise' or 'skip'"),
    ]:
        with pytest.raises(ValueError, match=message):
            build_bank(model, data / 'images', data / 'regions', out, **more)
    with pytest.raises(TypeError, match='image-0 is not a file'):
        build_bank(model, np.zeros((4, 4, 3), np.uint8), data / 'regions', out)
