"""Jobs in this process, and what is refused before an engine starts."""

import errno
import http.server
import io
import os
import shutil
import tarfile
import threading
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from mmtagclip import cli
from mmtagclip.apis.model_zoo import load_config
from mmtagclip.batch import BatchPredictor, Summary, job, make_listing, plan, ray_job, run
from mmtagclip.batch.job import summarise
from mmtagclip.batch.loop import TarRead, members, predicted_images
from mmtagclip.batch.places import Place
from mmtagclip.models.taggers.open_names import AutoNames


def make_tar(path, contents):
    """Write a tar if there is a path, and return its bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode='w') as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    if path is not None:
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


def test_files_that_can_never_be_read_are_rows_as_of_the_command_line(
    tmp_path, folder, scenes, capsys, monkeypatch
):
    good, loop, locked = (str(folder / name) for name in (*list(scenes)[:1], 'loop.jpg', 'bad.jpg'))
    os.symlink('loop.jpg', loop)
    real = io.open

    def lock(path, *args, **options):
        if str(path) == locked:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), locked)
        return real(path, *args, **options)

    monkeypatch.setattr('builtins.open', lock)
    monkeypatch.setattr(io, 'open', lock)
    (tmp_path / 'names.txt').write_text(f'{good}\n{loop}\n{locked}\n')
    here, there = tmp_path / 'here.parquet', tmp_path / 'there.parquet'
    model = ['--model', 'tagclip_demo', '--quiet', '--device', 'cpu']
    assert cli.main(['tag', str(tmp_path / 'names.txt'), '--out', str(here), *model]) == 1
    assert cli.main(['tag', good, loop, locked, '--out', str(there), *model]) == 1
    found, wanted = parquet.read_table(here), parquet.read_table(there)
    assert found.drop_columns(['id']).equals(wanted)
    assert found.schema.metadata[b'classes'] == wanted.schema.metadata[b'classes']
    assert found.column('error').to_pylist() == [
        None, f'no image at {loop}', f"[Errno 13] Permission denied: '{locked}'",
    ]  # fmt: skip
    assert plan(tmp_path / 'names.txt', model='tagclip_demo').errors == 2


def test_a_tar_that_can_never_be_read(tmp_path, monkeypatch):
    def lock(self, path, **_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    (tmp_path / 'a.tar').touch()
    os.symlink('b.tar', tmp_path / 'b.tar')
    monkeypatch.setattr(type(fsspec.filesystem('file')), '_open', lock)
    for name, error in (('a', "[Errno 13] Permission denied: '{}'"), ('b', 'there is no tar {}')):
        path, read = str(tmp_path / f'{name}.tar'), TarRead()
        assert list(members(path, read)) == []
        assert read.error == error.format(path)


def test_one_file_in_a_store(folder, capsys):
    words = ['tag', str(folder), '--out', 'memory://results/t.parquet', '--quiet']
    words += ['--model', 'tagclip_demo', '--device', 'cpu']
    assert cli.main(words) == 1
    with fsspec.filesystem('memory').open('/results/t.parquet', 'rb') as file:
        assert parquet.read_table(file).num_rows == 7
    capsys.readouterr()
    assert cli.main(words) == 2
    assert 'memory://results/t.parquet exists already' in capsys.readouterr().err


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
    (tmp_path / 'c.tar').write_bytes(b'')
    with pytest.raises(OSError, match=r'c\.tar is a damaged or truncated tar'):
        run(tmp_path / 'c.tar', tmp_path / 'u.parquet', **model)
    for one, other in zip(stored, packed, strict=False):
        assert one['image'].endswith(other['image'])
        assert one['scores'] == other['scores']
        assert other['tar'] == str(tmp_path / 'a.tar')


def test_a_name_in_a_tar_that_is_not_utf_8(tmp_path):
    make_tar(tmp_path / 'a.tar', {'caf\udce9.jpg': b'a', 'b.jpg': b'b'})
    read = TarRead()
    found = [name for name, _ in members(str(tmp_path / 'a.tar'), read)]
    assert found == ['caf\\udce9.jpg', 'b.jpg']
    assert read.error is None


def test_a_tar_in_a_store_that_refuses(monkeypatch):
    memory = type(fsspec.filesystem('memory'))

    def overloaded(*_, **__):
        raise PermissionError('403')

    monkeypatch.setattr(memory, 'info', overloaded)
    with pytest.raises(OSError, match=r'memory://a\.tar can not be reached: 403'):
        list(members('memory://a.tar', TarRead()))


def test_a_tar_that_can_not_be_reached_now():
    pytest.importorskip('aiohttp')

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(404 if 'no' in self.path else 503)
            self.send_header('Content-Length', '0')
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f'http://127.0.0.1:{server.server_port}'
        with pytest.raises(OSError, match=r'/a\.tar can not be reached: 503'):
            list(members(f'{address}/a.tar', TarRead()))
        read = TarRead()
        assert list(members(f'{address}/no.tar', read)) == []
        assert read.error == f'there is no tar {address}/no.tar'
        server.shutdown()


@pytest.mark.parametrize('error', [RuntimeError('503'), EOFError('503'), OSError('503')])
def test_a_tar_that_breaks_off_at_a_store(monkeypatch, scenes, error):
    """An error of the store's own kind, even one that tarfile knows, is not the tar's."""
    memory = fsspec.filesystem('memory')
    whole = make_tar(None, scenes)

    class Torn(io.BytesIO):
        def read(self, size=-1):
            if self.tell() > len(whole) // 2:
                raise error
            return super().read(size)

    monkeypatch.setattr(type(memory), 'info', lambda *_: {'type': 'file'})
    monkeypatch.setattr(type(memory), 'open', lambda *_, **__: Torn(whole))
    read = TarRead()
    with pytest.raises(OSError, match=r'^memory://a\.tar can not be reached: 503$'):
        list(members('memory://a.tar', read))
    assert read.error is None


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
        (['--address', 'auto'], '--address needs --engine ray'),
        (['--rows-per-file', '5'], '--rows-per-file needs --engine ray'),
        (['--column', 'file'], '--column names a column of a list, and there is no list'),
        (['s3://b/x', '--out', 't.csv'], 's3://b/x: lists, tars and stores need --out x.parquet'),
        (['--out', 's3://b/t.csv'], 's3://b/t.csv: lists, tars and stores need --out x.parquet'),
        (['a.txt'], 'a.txt: lists, tars and stores need --out x.parquet or --engine ray'),
        (['--engine', 'ray', '--out', f'{__file__}/x'], 'is a file, so nothing can be written'),
        (['--engine', 'ray', '--out', __file__], 'is a file, so nothing can be written'),
        (['a.txt', '--out', f'{__file__}/x.parquet'], 'is a file, so nothing can be written'),
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
    assert cli.main(['tag', 'photos', *words, '--model', 'tagclip_demo']) == 2
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
    (tmp_path / 'x' / '_listing.tar').touch()
    make_listing(tmp_path / 'x' / '_listing.tar', place, name='_listing.parquet')
    with pytest.raises(ValueError, match=r'_listing\.tar would have the output _listing\.parquet'):
        ray_job.tar_stems(place)


def with_rows(place, numbers, name):
    """A file of rows as a job on Ray leaves it, with its checkpoint; returns both paths."""
    rows = pa.table({'id': numbers, 'error': pa.array([None] * len(numbers), pa.string())})
    checkpoint = Path(place.address, ray_job.CHECKPOINT)
    checkpoint.mkdir(parents=True, exist_ok=True)
    paths = Path(place.address, f'{name}_0.parquet'), checkpoint / f'{name}.parquet'
    for path in paths:
        parquet.write_table(rows, path)
    return paths


def test_a_file_that_was_being_written(tmp_path):
    (tmp_path / 'a.txt').write_text('a.jpg\nb.jpg\nc.jpg\n')
    place = Place(str(tmp_path / 'out'))
    listing = make_listing(tmp_path / 'a.txt', place, name='_listing.parquet')
    with_rows(place, [0], 'x')
    torn, checkpoint = with_rows(place, [1, 2], 'y')
    torn.write_bytes(torn.read_bytes()[:50])
    pending = checkpoint.rename(checkpoint.with_suffix('.pending.parquet'))
    assert ray_job.done_ids(place, 'images').tolist() == [0]
    summary = summarise(place, listing)
    assert summary.missing == (str(tmp_path / 'b.jpg'), str(tmp_path / 'c.jpg'))
    ray_job.clean(place, 'images')
    assert not torn.exists()
    assert not pending.exists()
    # A store copies the checkpoint before it removes the pending one.
    whole, checkpoint = with_rows(place, [1, 2], 'z')
    shutil.copy(checkpoint, checkpoint.with_suffix('.pending.parquet'))
    assert summarise(place, listing).is_whole
    ray_job.clean(place, 'images')
    assert whole.exists()
    assert sorted(path.name for path in checkpoint.parent.iterdir()) == ['x.parquet', 'z.parquet']
    with_rows(place, [2], 'w')
    with pytest.raises(ray_job.JobError, match='has 4 rows of 3 images, some of them twice'):
        summarise(place, listing)


def test_what_a_killed_process_was_writing(tmp_path):
    place = Place(str(tmp_path / 'out'))
    part = tmp_path / 'out' / f'.{"0a" * 16}.part'
    part.parent.mkdir()
    part.touch()
    assert job._begun(place) is None  # a listing takes minutes: the next start makes another
    ray_job.clean(place, 'images')
    assert not part.exists()
    part.with_name('.notes.part').touch()
    with pytest.raises(FileExistsError, match='is not empty and holds no results'):
        job._begun(place)


def test_a_ledger_whose_file_is_not_there(tmp_path):
    for name in 'ab':
        make_tar(tmp_path / f'{name}.tar', {})
    place = Place(str(tmp_path / 'out'))
    tars = [tmp_path / 'a.tar', tmp_path / 'b.tar']
    listing = make_listing(tars, place, name='_listing.parquet')
    columns = {'id': [0, 1], 'file': ['a.parquet', 'x/b.parquet'], 'images': [3, 4]}
    columns |= {'errors': [0, 1], 'error': pa.array([None, None], pa.string())}
    files = [tmp_path / 'out' / name for name in ('_ledger/x.parquet', *columns['file'])]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(pa.table(columns), file)
    assert str(summarise(place, listing)) == '7 images, 1 errors, 0 missing'
    files[-1].unlink()
    with pytest.raises(ray_job.JobError, match=r'lacks x/b\.parquet, which its ledger names'):
        summarise(place, listing)


def test_a_job_goes_on_on_another_processor(tmp_path, tagger):
    """Whose text features have other last digits; other templates are another job."""
    (tmp_path / 'templates.txt').write_text('a {}.\n')
    settings = {'threads': 1, 'model': load_config('tagclip_demo')}
    settings['model'].model.templates = str(tmp_path / 'templates.txt')
    one = BatchPredictor(**settings)
    facts = job._manifest(one, tmp_path, 'path').job
    for names in (one.names, one.inferencer.model.names):
        names.text.mul_(1 + 1e-6)
    assert one.manifest.job != facts
    assert job._manifest(one, tmp_path, 'path').job == facts
    (tmp_path / 'templates.txt').write_text('the {}.\n')
    two = job._manifest(BatchPredictor(**settings), tmp_path, 'path').job
    changed = {key for key in facts if facts[key] != two[key]}
    assert changed == {'model.templates'}


def test_settings_mean_the_same_in_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ('t.txt', 'd.json', 'l.txt', 'c.txt'):
        Path(name).touch()
    settings = {'thresholds': 't.txt', 'descriptions': Path('d.json'), 'labels': 'l.txt'}
    found = job.portable(
        {'model': 'tagclip_demo', 'classes': AutoNames(captions='c.txt'), **settings}
    )
    assert found['classes'] == AutoNames(captions=str(tmp_path / 'c.txt'))
    assert {name: found[name] for name in settings} == {
        name: str(tmp_path / path) for name, path in settings.items()
    }


def test_columns_are_read_without_the_rest(monkeypatch):
    place = Place('memory://columns')
    monkeypatch.setattr(place, 'filesystem', Recorder())
    place.open('a', columns=True)
    place.open('a')
    assert place.filesystem.options == [{'cache_type': 'none'}, {}]


class Recorder:
    """A file system that only keeps how it was asked to open files."""

    def __init__(self):
        self.options = []

    def open(self, path, mode, **options):
        """Keep the options."""
        self.options.append(options)
        return io.BytesIO()


@pytest.mark.parametrize(
    'text, match', [('', 'early: KeyError. Run'), ('a\n b \n\n', 'early: b. Run the same command')]
)
def test_the_sentence_of_a_job_that_ended_early(text, match):
    pytest.importorskip('ray')
    error = ray_job._of_job(KeyError() if not text else RuntimeError(text))
    assert isinstance(error, OSError)
    assert match in str(error)


def test_a_list_that_grew(tmp_path, folder, monkeypatch):
    monkeypatch.setattr('mmtagclip.extras.find_spec', lambda name: True)
    monkeypatch.setattr(ray_job.Cluster, '__enter__', lambda self: self)
    monkeypatch.setattr(ray_job.Cluster, '__exit__', lambda self, *_: None)
    monkeypatch.setattr(ray_job, 'run_passes', lambda *_: (0, 'OSError: full'))
    (tmp_path / 'a.txt').write_text('a.jpg\n')
    options = {'model': 'tagclip_demo', 'out': tmp_path / 'out'}
    first = run(tmp_path / 'a.txt', **options)
    assert (first.listed, first.reason) == ('', 'OSError: full')
    again = run(tmp_path / 'a.txt', **options)
    assert again.listed == 'listed at the first start: 1 images'
    (tmp_path / 'a.txt').write_text('a.jpg\nb.jpg\n')
    with pytest.raises(ValueError, match=r'content of .*a\.txt was'):
        run(tmp_path / 'a.txt', **options)


def test_why_rows_are_missing_is_printed(tmp_path, folder, capsys, monkeypatch):
    monkeypatch.setattr('mmtagclip.extras.find_spec', lambda name: True)
    summary = Summary(6, 0, ('a.jpg',), 1, reason='OSError: full', listed='listed')
    monkeypatch.setattr('mmtagclip.batch.run', lambda *_, **__: summary)
    out = str(tmp_path / 'out')
    words = ['tag', str(folder), '--engine', 'ray', '--out', out, '--model', 'tagclip_demo']
    assert cli.main(words) == 1
    *_, missing, reason = capsys.readouterr().err.splitlines()
    assert missing == 'mmtagclip: have no row: run the same command again: a.jpg'
    assert reason == 'mmtagclip: the last error of a worker: OSError: full'


def test_a_worker_tells_its_error():
    class Remote:
        def remote(self, text):
            told.append(text)

    told = []
    worker = object.__new__(ray_job.Worker)
    worker.counter = type('Counter', (), {'fail': Remote()})
    with pytest.raises(AttributeError):
        list(worker(None))
    assert 'AttributeError: ' in told[0]


def test_as_many_rows_together_as_batches_need(tmp_path):
    class Predictor:
        batch_size = 20

        def __call__(self, table):
            return table

    (tmp_path / 'a.jpg').touch()
    rows = pa.table({'id': range(100), 'path': [str(tmp_path / 'a.jpg')] * 100})
    assert [one.num_rows for one in predicted_images(Predictor(), rows)] == [80, 20]


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
