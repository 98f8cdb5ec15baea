"""Jobs on Ray: whatever dies, every image has one row in the end, with the command line's bits.

Each job takes seconds to start, so one Ray and few jobs serve all tests. Where a model does not
matter, a stand-in takes its place in the workers.
"""

import functools
import os
import sys
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from mmtagclip import cli
from mmtagclip.batch import make_listing, ray_job, run
from mmtagclip.batch.job import summarise
from mmtagclip.batch.listing import read_listing
from mmtagclip.batch.places import Place
from tests.batch.test_job import make_tar
from tests.processes import slow

if find_spec('ray') is None:
    pytest.skip('needs Ray', allow_module_level=True)
ray = ray_job.import_ray()  # which sets what Ray reads when it is imported

POISON = b'poison'
LISTING = '_listing.parquet'


class Sizes:
    """Stands for a predictor: the size of each file. A poisoned one kills the process."""

    batch_size = 1
    result_schema = pa.schema([('size', pa.int64()), ('error', pa.string())])

    def __init__(self, poisonous, names, key):
        self.poisonous, self.key = poisonous, (key,) if isinstance(key, str) else key

    def __call__(self, table):
        contents = table.column('bytes').to_pylist()
        if self.poisonous and POISON in contents:
            os._exit(1)
        results = [
            pa.array([len(one or b'') for one in contents], pa.int64()),
            pa.array(['gone' if one is None else None for one in contents], pa.string()),
        ]
        names = [*self.key, *self.result_schema.names]
        return pa.table([*(table.column(key) for key in self.key), *results], names)


@pytest.fixture(scope='module')
def store():
    """A store that speaks S3 on this machine; None without the packages for it."""
    try:
        import s3fs
        from moto.server import ThreadedMotoServer
    except ImportError:
        yield None
        return
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    values = {
        'AWS_ENDPOINT_URL': 'http://{}:{}'.format(*server.get_host_and_port()),
        'AWS_ACCESS_KEY_ID': 'a',
        'AWS_SECRET_ACCESS_KEY': 'b',
        'AWS_DEFAULT_REGION': 'us-east-1',
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setenv(name, value)
        yield s3fs.S3FileSystem()
    server.stop()


@pytest.fixture(scope='module')
def cluster(store):
    """Ray on this machine with four logical CPUs, for one worker that knows the store."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with pytest.MonkeyPatch.context() as patch:
        # Ray's own is 15: beside other tests, its workers would hardly run.
        patch.setenv('RAY_worker_niceness', '0')
        with ray_job.Cluster('local', 1, 0) as cluster:
            assert ray.cluster_resources()['CPU'] >= 4
            yield cluster
    assert not ray.is_initialized()


def listed(tmp_path, contents):
    """An output with the listing of images or tars with some content."""
    paths = []
    for name, content in contents.items():
        paths.append(tmp_path / name)
        if content is not None:
            paths[-1].write_bytes(content)
    (tmp_path / 'list.txt').write_text('\n'.join(map(str, paths)))
    place = Place(str(tmp_path / 'out'))
    return place, make_listing(tmp_path / 'list.txt', place, name=LISTING)


def passes(cluster, place, listing, poisonous=False, rows=4):
    done = ray_job.done_ids(place, listing.kind)
    build = functools.partial(Sizes, poisonous)
    computed, _ = ray_job.run_passes(cluster, place, listing, build, b'', rows, done, quiet=True)
    return computed


def test_a_job_that_dies_resumes(tmp_path, cluster, monkeypatch, capfd):
    monkeypatch.setattr(ray_job, 'LOST_BLOCKS', 0)
    monkeypatch.setattr(ray_job, 'TRIES', 1)
    contents = {f'{number}.jpg': b'x' * number for number in range(8)}
    contents['0.jpg'] = None
    contents['7.jpg'] = POISON
    place, listing = listed(tmp_path, contents)
    with pytest.raises(ray_job.JobError, match='the job ended early'):
        passes(cluster, place, listing, poisonous=True)
    there = summarise(place, listing)
    assert there.num_missing in (2, 4, 6)  # whole blocks
    assert not there.is_whole
    assert str(tmp_path / '7.jpg') in there.missing
    # As if it had died between a file and its commit: the file is removed, and done again.
    checkpoint = Path(place.address, ray_job.CHECKPOINT)
    first = min(checkpoint.iterdir())
    first.rename(first.with_suffix('.pending.parquet'))
    torn = next(Path(place.address).glob(f'{first.stem}*.parquet'))
    torn.write_bytes(torn.read_bytes()[:50])
    # The poisoned image is lost alone: none that waits behind it, and no worker for good.
    monkeypatch.setattr(ray_job, 'LOST_BLOCKS', 10)
    monkeypatch.setattr(ray_job, 'RESTARTS', 0)
    computed = passes(cluster, place, listing, poisonous=True)
    assert computed == there.num_missing + 2 - 1
    found = summarise(place, listing)
    assert (found.images, found.errors, found.num_missing) == (7, 1, 1)
    assert found.missing == (str(tmp_path / '7.jpg'),)
    rows = parquet.read_table(place.address).sort_by('id').to_pylist()
    assert [(row['id'], row['size']) for row in rows] == [(id, id) for id in range(7)]
    assert all(row['image'] == str(tmp_path / f'{row["id"]}.jpg') for row in rows)
    assert read_listing(place, LISTING).ids.tolist() == list(range(8))
    assert capfd.readouterr() == ('', '')  # what Ray says of workers that die is not shown


@slow
def test_lost_blocks_are_tried_row_by_row(tmp_path, cluster, monkeypatch):
    monkeypatch.setattr(ray_job, 'TRIES', 1)
    contents = {f'{number:02}.jpg': b'x' * number for number in range(16)}
    contents['14.jpg'] = POISON
    place, listing = listed(tmp_path, contents)
    assert passes(cluster, place, listing, poisonous=True) == 15
    found = summarise(place, listing)
    assert (found.images, found.missing) == (15, (str(tmp_path / '14.jpg'),))
    # Three blocks of four, then the rest of the fourth.
    sizes = sorted(
        parquet.read_metadata(one).num_rows for one in Path(place.address).glob('*.parquet')
    )
    assert sizes == [1, 1, 1, 4, 4, 4, 16]


def test_tars_have_a_file_each(tmp_path, cluster):
    for name in ('0.tar', '1.tar', '2.tar'):
        make_tar(tmp_path / name, {'a.jpg': b'a', f'{name}.png': b'bcd', 'a.txt': b''})
    whole = (tmp_path / '2.tar').read_bytes()
    contents = {name: (tmp_path / name).read_bytes() for name in ('0.tar', '1.tar')}
    place, listing = listed(tmp_path, {**contents, '2.tar': whole[:1024], '3.tar': None})
    assert passes(cluster, place, listing) == 5
    summary = summarise(place, listing)
    assert (summary.images, summary.errors, summary.num_missing) == (5, 2, 0)
    assert any('2.tar is a damaged or truncated tar' in text for text in summary.examples)
    assert any('there is no tar' in text for text in summary.examples)
    assert parquet.read_table(f'{place.address}/1.parquet').to_pylist() == [
        {'image': 'a.jpg', 'size': 1, 'error': None},
        {'image': '1.tar.png', 'size': 3, 'error': None},
    ]


def test_a_bucket_has_the_command_lines_rows(tmp_path, cluster, store, folder, tagger, capsys):
    if store is None:
        pytest.skip('needs s3fs and moto')
    store.mkdir('bucket')
    for path in folder.iterdir():
        store.put_file(str(path), f'bucket/photos/{path.name}')
    words = ['--engine', 'ray', '--out', 's3://bucket/out', '--workers', '1']
    words = ['tag', 's3://bucket/photos', '--model', 'tagclip_demo', *words]
    assert cli.main(words) == 1
    error = capsys.readouterr().err
    assert '7 images, 1 errors, 0 missing' in error
    assert 'could not be read: s3://bucket/photos/bad.jpg is not an image' in error
    assert '1 file was not read: 1 .mov' in error
    store.get('bucket/out', str(tmp_path / 'out'), recursive=True)
    assert not (tmp_path / 'out' / ray_job.CHECKPOINT).exists()
    found = parquet.read_table(tmp_path / 'out').sort_by('id').to_pylist()
    paths = sorted(folder.glob('*.jpg'))
    table = pa.table(
        {
            'id': range(len(paths)),
            'image': [f's3://bucket/photos/{path.name}' for path in paths],
            'bytes': [path.read_bytes() for path in paths],
        }
    )
    assert found == tagger(table).to_pylist()
    # Nothing is left to do, and other options are refused.
    assert cli.main(words) == 1
    assert '7 images, 1 errors, 0 missing in s3' in capsys.readouterr().err
    assert cli.main([*words, '--top', '1']) == 2
    assert 'begun by another job: options.top was not there, now it is 1' in capsys.readouterr().err


@slow
def test_masks_have_the_predictors_rows(tmp_path, cluster, folder, segmentor, capsys):
    words = ['--engine', 'ray', '--out', str(tmp_path / 'out'), '--workers', '1']
    assert cli.main(['segment', str(folder), '--model', 'cls-seg_demo', *words]) == 1
    assert '7 images, 1 errors, 0 missing' in capsys.readouterr().err
    found = parquet.read_table(tmp_path / 'out').sort_by('id').to_pylist()
    paths = sorted(folder.glob('*.jpg'))
    table = pa.table(
        {
            'id': range(len(paths)),
            'image': [str(path) for path in paths],
            'bytes': [path.read_bytes() for path in paths],
        }
    )
    assert found == segmentor(table).to_pylist()
    assert sum(bool(row['masks']) for row in found) == 6


def test_an_output_without_its_checkpoint(tmp_path, folder, monkeypatch):
    """Rows that no checkpoint knows would be computed and written again."""
    out = tmp_path / 'out'
    monkeypatch.setattr(ray_job, 'run_passes', stop)
    with pytest.raises(StopIteration):
        run(folder, out, model='tagclip_demo', workers=1)
    rows = pa.table({'id': [0], 'error': pa.array([None], pa.string())})
    parquet.write_table(rows, out / 'a.parquet')
    with pytest.raises(FileExistsError, match='has 1 of 7 rows, but no checkpoint'):
        run(folder, out, model='tagclip_demo', workers=1)


def stop(*_, **__):
    raise StopIteration


@pytest.mark.parametrize(
    'error, kind, match',
    [
        (ConnectionError('no'), ConnectionError, 'there is no Ray cluster at 10.0.0.1:1'),
        (RuntimeError('Version mismatch: The cluster has\n Ray: 2.9'), ValueError, 'Ray: 2.9'),
        (RuntimeError('else'), RuntimeError, 'else'),
    ],
)
def test_clusters_that_can_not_be_joined(monkeypatch, error, kind, match):
    def init(**_):
        raise error

    monkeypatch.setattr(ray, 'init', init)
    monkeypatch.setattr(ray, 'is_initialized', lambda: False)
    with pytest.raises(kind, match=match), ray_job.Cluster('10.0.0.1:1', 1, 0):
        pass


def test_a_small_machine_counts_as_more_cpus(monkeypatch):
    """A job that resumes on 2 logical CPUs would wait forever."""
    asked = {}
    monkeypatch.setattr(ray, 'init', lambda **options: asked.update(options))
    monkeypatch.setattr(ray, 'is_initialized', lambda: False)
    monkeypatch.setattr(ray, 'cluster_resources', lambda: {'CPU': asked['num_cpus']})
    monkeypatch.setattr(os, 'sched_getaffinity', lambda process: {0, 3}, raising=False)
    with ray_job.Cluster('local', None, None) as found:
        assert asked['num_cpus'] == 2 + ray_job.OTHER_CPUS == 5
        assert found.workers == 2
