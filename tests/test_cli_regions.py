"""``mmtagclip regions``: files that the package's own reader reads, resuming, shards, refusals."""

import json

import numpy as np
import pytest
from PIL import Image

from mmtagclip.cli import main
from mmtagclip.cli import regions as command
from mmtagclip.regions import RegionSource, read_regions, region_files
from tests.golden.weights import smooth_image
from tests.sam import tiny_sam2


class Bright(RegionSource):
    """One region: what is brighter than the mean. Counts its images."""

    seen: list = []

    def __init__(self, level=0):
        super().__init__()
        self.level = level

    def forward(self, image):
        self.seen.append(image.shape)
        grey = image.mean(axis=2)
        return ((grey > grey.mean() + self.level) * np.int32(300)).astype(np.int32)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / 'photos'
    (folder / 'more').mkdir(parents=True)
    for index, name in enumerate(('a.png', 'b.jpg', 'more/a.png')):
        Image.fromarray(smooth_image(30 + index, 40, index)).save(folder / name)
    return folder


@pytest.fixture
def bright(monkeypatch):
    monkeypatch.setattr(command, 'check_source', lambda args: None)
    monkeypatch.setattr(command, 'source_of', lambda args: Bright(args.points))
    Bright.seen = []
    return Bright.seen


def regions(*args):
    return main(['regions', *map(str, args), '--quiet'])


@pytest.mark.parametrize('ending', ['png', 'npz'])
def test_files_are_those_that_load_regions_reads(photos, tmp_path, bright, ending):
    out = tmp_path / 'out'
    assert regions(photos, '--out', out, '--format', ending, '--points', 1) == 0
    assert len(bright) == 3
    found = dict(region_files(out / 'regions'))
    assert sorted(found) == ['a', 'b', 'more/a']
    for name, image in (('a', 'a.png'), ('more/a', 'more/a.png')):
        expected = Bright(1)(np.array(Image.open(photos / image)))
        assert np.array_equal(read_regions(found[name]), expected)
    lines = [json.loads(line) for line in (out / 'labels.jsonl').read_text().splitlines()]
    assert [one['num_regions'] for one in lines] == [1, 1, 1]
    assert lines[0]['size'] == [30, 40]
    assert main(['check', str(out)]) == 0


def test_a_stopped_run_resumes_and_another_is_refused(
    photos, tmp_path, bright, monkeypatch, capsys
):
    out = tmp_path / 'out'
    real = Bright.forward

    def stopping(self, image):
        if len(self.seen) == 2:
            raise KeyboardInterrupt
        return real(self, image)

    monkeypatch.setattr(Bright, 'forward', stopping)
    assert regions(photos, '--out', out) == 130
    assert not (out / 'labels.jsonl').exists()
    monkeypatch.setattr(Bright, 'forward', real)
    assert regions(photos, '--out', out, '--points', 5) == 2
    assert 'was begun by another job: source was' in capsys.readouterr().err
    assert regions(photos, '--out', out) == 0
    assert len(bright) == 3
    damaged = next((out / 'regions').rglob('*.png'))
    damaged.write_bytes(b'other')
    assert regions(photos, '--out', out) == 0
    assert len(bright) == 4
    assert main(['check', str(out)]) == 0
    assert regions(photos, '--out', out, '--points', 5, '--overwrite') == 0
    assert len(bright) == 7


def test_shards_share_the_images(photos, tmp_path, bright, capsys):
    out = tmp_path / 'out'
    assert main(['regions', str(photos), '--out', str(out), '--shard', '1/2']) == 0
    assert 'share 1/2 is done; others are not yet' in capsys.readouterr().err
    assert len(bright) == 1
    assert not (out / 'labels.jsonl').exists()
    assert regions(photos, '--out', out, '--shard', '0/2') == 0
    assert len(bright) == 3
    assert len(region_files(out / 'regions')) == 3


def test_images_that_can_not_be_read(photos, tmp_path, bright, capsys):
    (photos / 'c.png').write_bytes(b'no image')
    assert regions(photos, '--out', tmp_path / 'out') == 1
    assert 'could not read' in capsys.readouterr().err
    assert len(region_files(tmp_path / 'out' / 'regions')) == 3
    assert regions(photos, '--out', tmp_path / 'other', '--on-error', 'raise') == 2


def test_sam_2_from_a_folder(photos, tmp_path):
    model = f'local-dir:{tiny_sam2(tmp_path / "sam2")}'
    options = ('--points', 2, '--quality', 0, '--stability', 0, '--single-mask', '--device', 'cpu')
    out = tmp_path / 'out'
    assert regions(photos / 'a.png', '--out', out, '--model', model, *options) == 0
    ((_, file),) = region_files(out / 'regions')
    assert read_regions(file).max() >= 1


@pytest.mark.parametrize(
    'options, message',
    [
        (['--out', 'x.png'], '--out must be a folder without an ending'),
        (['--shard', '2/2'], "--shard must be I/N with 0 <= I < N, such as 0/4, not '2/2'"),
        (['--shard', 'x'], '--shard must be I/N'),
        (['--model', 'sam_vit_x'], '--model must be sam_vit_b, sam_vit_l, sam_vit_h, local-dir:'),
        (['--single-mask'], '--single-mask is an option of SAM 2 only'),
        (['--checkpoint', 'none.pth'], '--checkpoint: there is no file none.pth'),
        (
            ['--model', 'hf-hub:a/b', '--checkpoint', 'none.pth'],
            '--checkpoint names the weights of a SAM',
        ),
        (['--device', 'gpu'], 'gpu'),
        ([], 'the weights of sam_vit_b (sa1b) are not on this machine'),
    ],
)
def test_refusals(photos, tmp_path, capsys, monkeypatch, options, message):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    out = [] if '--out' in options else ['--out', tmp_path / 'out']
    assert regions(photos, *out, *options) == 2
    assert message in capsys.readouterr().err


def test_many_regions_need_another_format():
    from mmtagclip.apis.region_run import encode_regions

    ids = np.full((1, 1), 70000, np.int32)
    with pytest.raises(
        ValueError, match=r'a.png has the region 70000, but a PNG holds at most 65535'
    ):
        encode_regions(ids, 'png', 'a.png')
    assert encode_regions(ids, 'npz')
