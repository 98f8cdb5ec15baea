"""Jobs in this process, and what is refused before an engine starts."""

import io
import tarfile

import fsspec
import numpy as np
import pytest
from pyarrow import parquet

from mmtagclip import cli
from mmtagclip.batch import make_listing, plan, ray_job, run
from mmtagclip.batch.loop import TarRead, members
from mmtagclip.batch.places import Place


def make_tar(path, contents):
    """Write a tar, and return its bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode='w') as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    path.write_bytes(buffer.getvalue())
    return buffer.getvalue()


def test_one_file_without_an_engine_has_the_command_lines_rows(tmp_path, folder, capsys):
    (tmp_path / 'names.txt').write_text(
        '\n'.join(f'photos/{path.name}' for path in sorted(folder.glob('*.jpg'))) + '\nno.jpg\n'
    )
    here, there = tmp_path / 'here.parquet', tmp_path / 'there.parquet'
    model = ['--model', 'tagclip_demo', '--quiet', '--device', 'cpu']
    assert cli.main(['tag', str(tmp_path / 'names.txt'), '--out', str(here), *model]) == 1
    error = capsys.readouterr().err
    assert f'could not be read: no image at {tmp_path}/no.jpg' in error
    paths = [str(path) for path in sorted(folder.glob('*.jpg'))]
    assert cli.main(['tag', *paths, '--out', str(there), *model]) == 1
    found, wanted = parquet.read_table(here), parquet.read_table(there)
    assert found.drop_columns(['id']).slice(0, 7).equals(wanted)
    assert found.num_rows == 8
    assert found.schema.metadata[b'classes'] == wanted.schema.metadata[b'classes']
    assert cli.main(['tag', str(tmp_path / 'names.txt'), '--out', str(here), *model]) == 2
    assert 'exists already' in capsys.readouterr().err


def test_a_store_and_tars_without_an_engine(tmp_path, scenes):
    memory = fsspec.filesystem('memory')
    contents = dict(list(scenes.items())[:2])
    for name, content in contents.items():
        memory.pipe_file(f'/two/{name}', content)
    make_tar(tmp_path / 'a.tar', {**contents, 'a.json': b'{}'})
    cut = make_tar(tmp_path / 'b.tar', contents)
    (tmp_path / 'b.tar').write_bytes(cut[: len(cut) // 2])
    model = {'model': 'tagclip_demo', 'engine': None, 'threads': 1}
    of_store = run('memory://two', tmp_path / 's.parquet', **model)
    assert (of_store.images, of_store.errors, of_store.num_missing) == (2, 0, 0)
    of_tars = run([tmp_path / 'a.tar', tmp_path / 'b.tar'], tmp_path / 't.parquet', **model)
    assert of_tars.errors == 1
    assert 'b.tar is a damaged or truncated tar' in of_tars.examples[0]
    stored = parquet.read_table(tmp_path / 's.parquet').to_pylist()
    packed = parquet.read_table(tmp_path / 't.parquet').to_pylist()
    for one, other in zip(stored, packed, strict=False):
        assert one['image'].endswith(other['image'])
        assert one['scores'] == other['scores']
        assert other['tar'] == str(tmp_path / 'a.tar')


def test_tars_that_end_early_are_told(tmp_path):
    whole = make_tar(tmp_path / 'a.tar', {'a.jpg': b'a' * 700, 'b.jpg': b'b' * 700})
    member = 512 + 1024  # header, and content in blocks
    broken = bytearray(whole)
    broken[member + 10] ^= 1  # in the second header
    for content, count, error in (
        (whole, 2, None),
        (whole[: 2 * member], 2, 'no end mark'),
        (whole[:member], 1, 'no end mark'),
        (whole[: member + 600], 1, 'unexpected end of data'),
        (bytes(broken), 1, 'no end mark'),
        (b'', 0, 'damaged or truncated'),
    ):
        (tmp_path / 'b.tar').write_bytes(content)
        read = TarRead()
        found = list(members(str(tmp_path / 'b.tar'), read))
        assert len(found) == count
        assert (read.error is None) if error is None else error in read.error
    read = TarRead()
    assert list(members(str(tmp_path / 'no.tar'), read)) == []
    assert read.error == f'there is no tar {tmp_path}/no.tar'


@pytest.mark.parametrize(
    'words, match',
    [
        (['--workers', '2'], '--workers needs --engine ray'),
        (['--plan'], '--plan needs --engine ray'),
        (['--engine', 'ray'], 'name it with --out'),
        (['--engine', 'ray', '--out', 'x', '--vis', 'v'], '--vis does not go with'),
        (['--engine', 'ray', '--out', 'x', '--overwrite'], '--overwrite does not go with'),
        (['--engine', 'ray', '--out', 'x', '--on-error', 'raise'], '--on-error does not go with'),
        (['--engine', 'ray', '--out', 'x', '--device', 'cpu'], 'leave --device out'),
        (['--engine', 'ray', '--out', 'x', '--workers', '0'], '--workers must be at least 1'),
        (['--engine', 'ray', '--out', 'x', '--rows-per-file', '0'], '--rows-per-file must be'),
        (['--engine', 'ray', '--out', 'x', '--gpus-per-worker', '-1'], '--gpus-per-worker must be'),
    ],
)
def test_bad_options(words, match, capsys, monkeypatch):
    monkeypatch.setattr('mmtagclip.extras.find_spec', lambda name: True)
    assert cli.main(['tag', 'photos', '--model', 'tagclip_demo', *words]) == 2
    assert match in capsys.readouterr().err


def test_without_ray(capsys, monkeypatch):
    real = __import__('importlib.util').util.find_spec
    monkeypatch.setattr(
        'mmtagclip.extras.find_spec', lambda name: None if name == 'ray' else real(name)
    )
    assert cli.main(['tag', 'photos', '--engine', 'ray', '--out', 'x']) == 2
    assert "--engine ray needs ray: pip install -e '.[ray]'" in capsys.readouterr().err


def test_outputs_that_hold_other_things(tmp_path, folder, monkeypatch):
    monkeypatch.setattr('mmtagclip.extras.find_spec', lambda name: True)
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / 'mine.txt').touch()
    with pytest.raises(FileExistsError, match='is not empty and holds no results'):
        run(folder, tmp_path / 'out', model='tagclip_demo')
    (tmp_path / 'out' / '_manifest.json').write_text('{}')
    with pytest.raises(ValueError, match='is no manifest of results'):
        run(folder, tmp_path / 'out', model='tagclip_demo')
    with pytest.raises(ValueError, match="engine must be 'ray' or None, not 'dask'"):
        run(folder, tmp_path / 'out', model='tagclip_demo', engine='dask')
    with pytest.raises(ValueError, match=r'a file that ends in \.parquet'):
        run(folder, tmp_path / 'out', model='tagclip_demo', engine=None)
    with pytest.raises(ValueError, match='threads is chosen by the engine'):
        run(folder, tmp_path / 'new', model='tagclip_demo', threads=2)


def test_the_size_of_a_cluster(monkeypatch):
    monkeypatch.setattr('mmtagclip.extras.find_spec', lambda name: True)
    cluster = ray_job.Cluster('auto', None, None)
    cluster._settle({'CPU': 8})
    assert (cluster.workers, cluster.gpus) == (5, 0)
    cluster._settle({'CPU': 8, 'GPU': 2})
    assert (cluster.workers, cluster.gpus) == (2, 1)
    half = ray_job.Cluster('auto', None, 0.5)
    half._settle({'CPU': 8, 'GPU': 2})
    assert half.workers == 4
    for count, gpus, has, match in (
        (2, 0, {'CPU': 4}, '2 workers need 5 CPUs, and the cluster has 4'),
        (None, 0, {'CPU': 2}, '1 worker needs 4 CPUs, and the cluster has 2'),
        (1, 1, {'CPU': 8}, 'each worker needs 1 GPU, and the cluster has 0'),
        (3, 1, {'CPU': 8, 'GPU': 2}, '3 workers need 3 GPUs, and the cluster has 2'),
    ):
        with pytest.raises(ValueError, match=match):
            ray_job.Cluster('auto', count, gpus)._settle(has)


def test_two_tars_of_one_name(tmp_path):
    paths = [tmp_path / 'x' / 'a.tar', tmp_path / 'y' / 'a.tar', tmp_path / 'y' / 'a.tgz']
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    place = Place(str(tmp_path / 'out'))
    make_listing(paths[:2], place, name='_listing.parquet')
    assert ray_job.tar_stems(place) == {0: 'x/a', 1: 'y/a'}
    make_listing(paths, place, name='_listing.parquet')
    with pytest.raises(ValueError, match=r'would have the same output y/a\.parquet'):
        ray_job.tar_stems(place)
    assert np.array_equal(ray_job.done_ids(place, 'tars'), [])


def test_a_plan(tmp_path, folder, capsys, monkeypatch):
    monkeypatch.setattr('mmtagclip.extras.find_spec', lambda name: True)
    words = ['tag', str(folder), '--engine', 'ray', '--plan', '--workers', '2']
    assert cli.main([*words, '--model', 'tagclip_demo']) == 0
    text = capsys.readouterr().out
    assert '7, of which 7 were tried (1 unreadable)' in text
    assert '2 workers' in text


def test_a_plan_of_tars(tmp_path, scenes):
    contents = dict(list(scenes.items())[:3])
    for name in ('a.tar', 'b.tar'):
        make_tar(tmp_path / name, contents)
    found = plan(tmp_path, model='tagclip_demo', workers=2, rows_per_file=5)
    assert found.trial == 3
    assert found.errors == 0
    assert found.read == sum(map(len, contents.values())) / 3
    size = (tmp_path / 'a.tar').stat().st_size
    assert found.images == round(2 * size / found.read)
    assert found.hours == pytest.approx(found.images / found.rate / 2 / 3600)
    assert found.lost == pytest.approx(found.images / 8 / found.rate + found.loading)
    make_tar(tmp_path / 'a.tar', {'a.txt': b''})
    with pytest.raises(ValueError, match=r'a\.tar has no image'):
        plan(tmp_path, model='tagclip_demo')
    with pytest.raises(ValueError, match='workers must be at least 1, not 0'):
        plan(tmp_path, model='tagclip_demo', workers=0)
