"""Listings of folders, lists, tars and stores."""

import errno
import importlib.util
import io
import os
import zipfile
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from mmtagclip import cli
from mmtagclip.batch import make_listing
from mmtagclip.batch.fetch import digest_of, fetch, is_there
from mmtagclip.batch.listing import expanded, read_listing
from mmtagclip.batch.places import Place, file_system, write_at


def rows(folder):
    return parquet.read_table(folder / 'listing.parquet').to_pylist()


def test_a_folder_lists_its_images_in_order(tmp_path, folder, scenes):
    listing = make_listing(folder, tmp_path / 'l')
    paths = [str(folder / name) for name in sorted([*scenes, 'bad.jpg'])]
    assert rows(tmp_path / 'l') == [{'id': n, 'path': path} for n, path in enumerate(paths)]
    assert listing.kind == 'images'
    assert listing.unread == '1 file was not read: 1 .mov'
    again = read_listing(Place(str(tmp_path / 'l')))
    assert again.kind == 'images'
    assert again.ids.tolist() == listing.ids.tolist() == list(range(7))


def test_lists_of_all_kinds_say_the_same(tmp_path, folder):
    (tmp_path / 'a.txt').write_text('photos/x.jpg\n\n/abs/y.jpg\nmemory://b/z.jpg\n')
    (tmp_path / 'a.csv').write_text('n,file\n1,photos/x.jpg\n2,/abs/y.jpg\n3,memory://b/z.jpg\n')
    table = pa.table({'file': ['photos/x.jpg', '/abs/y.jpg', 'memory://b/z.jpg']})
    (tmp_path / 'lists').mkdir()
    parquet.write_table(table, tmp_path / 'lists' / 'p.parquet')
    full = [f'{tmp_path}/photos/x.jpg', '/abs/y.jpg', 'memory://b/z.jpg']
    for source in ('a.txt', 'a.csv'):
        make_listing(tmp_path / source, tmp_path / source[2:], 'file')
        assert [row['path'] for row in rows(tmp_path / source[2:])] == full
    make_listing([tmp_path / 'lists', tmp_path / 'a.txt'], tmp_path / 'both', 'file')
    both = rows(tmp_path / 'both')
    assert [row['path'] for row in both[1:]] == full[1:] + full
    assert [row['id'] for row in both] == list(range(6))


def test_ids_of_a_list_are_kept(tmp_path):
    (tmp_path / 'a.csv').write_text('path,id\na.jpg,7\nb.jpg,3\n')
    listing = make_listing(tmp_path / 'a.csv', tmp_path / 'l')
    assert [row['id'] for row in rows(tmp_path / 'l')] == [7, 3]
    assert listing.ids.tolist() == [7, 3]


@pytest.mark.parametrize(
    'text, error, match',
    [
        ('path,id\na.jpg,1\nb.jpg,2\nc.jpg,1\n', ValueError, 'the id 1 occurs more than once'),
        ('path,id\na.jpg,1\nb.jpg,\n', ValueError, 'a row has no id'),
        ('path,id\na.jpg,one\n', TypeError, 'ids must be whole numbers, not string'),
        ('path,id\na.jpg,1\n,2\n', ValueError, "a row has no 'path'"),
        ('file,id\na.jpg,1\n', ValueError, "has no column 'path': it has file, id; name"),
        ('path\na.jpg\nb.tar\n', ValueError, 'has images and tars, such as b.tar'),
        ('path\n', FileNotFoundError, 'no image in'),
        ('path,path\na.jpg,b.jpg\n', ValueError, "a.csv has 2 columns 'path': rename all but one"),
        ('id,path,id\n1,a.jpg,2\n', ValueError, "a.csv has 2 columns 'id': rename all but one"),
        ('path\na.jpg\nfoo://x.jpg\n', ValueError, 'foo://x.jpg can not be opened: Protocol not'),
    ],
)
def test_bad_lists_leave_no_listing(tmp_path, text, error, match):
    (tmp_path / 'a.csv').write_text(text)
    with pytest.raises(error, match=match.replace('b.tar', '.*b.tar')):
        make_listing(tmp_path / 'a.csv', tmp_path / 'l')
    assert not (tmp_path / 'l' / 'listing.parquet').exists()


def test_a_parquet_list_with_two_columns_of_a_name(tmp_path):
    table = pa.table([['a.jpg'], ['b.jpg']], names=['path', 'path'])
    parquet.write_table(table, tmp_path / 'a.parquet')
    with pytest.raises(ValueError, match="has 2 columns 'path'"):
        make_listing(tmp_path / 'a.parquet', tmp_path / 'l')


def test_an_address_in_a_list_without_the_package(tmp_path, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        'mmtagclip.extras.find_spec', lambda name: None if name == 'gcsfs' else real(name)
    )
    (tmp_path / 'a.txt').write_text('memory://b/a.jpg\nzip://a.jpg::gs://b/c.zip\n')
    with pytest.raises(ImportError, match='gs:// needs gcsfs: pip install'):
        make_listing(tmp_path / 'a.txt', tmp_path / 'l')


def test_each_protocol_in_a_list_is_checked_once(tmp_path, monkeypatch):
    checked = []
    monkeypatch.setattr('mmtagclip.batch.listing.check_address', checked.append)
    (tmp_path / 'a.txt').write_text('zip://a::/b.zip\nzip://c::/b.zip\nmemory://d\nmemory://e\n')
    make_listing(tmp_path / 'a.txt', tmp_path / 'l')
    assert checked == ['zip://a::/b.zip', 'memory://d']


def test_ids_in_some_lists_only(tmp_path):
    (tmp_path / 'a.csv').write_text('path,id\na.jpg,1\n')
    (tmp_path / 'b.txt').write_text('b.jpg\n')
    with pytest.raises(ValueError, match='add it to all or remove it'):
        make_listing([tmp_path / 'a.csv', tmp_path / 'b.txt'], tmp_path / 'l')


def test_sources_that_are_not_there(tmp_path):
    for source, match in (('x.txt', 'there is no list'), ('x', 'no image, tar, list or folder')):
        with pytest.raises(FileNotFoundError, match=match):
            make_listing(tmp_path / source, tmp_path / 'l')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(FileNotFoundError, match='no image in'):
        make_listing(tmp_path / 'empty', tmp_path / 'l')


def test_patterns(tmp_path):
    for name in ('a1.jpg', 'a2.jpg', 'b[1].jpg', 'sub/a3.jpg', 'notes.txt'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    def listed(*sources):
        make_listing([str(tmp_path / one) for one in sources], tmp_path / 'out')
        rows = parquet.read_table(tmp_path / 'out' / 'listing.parquet').to_pylist()
        return [str(Path(row['path']).relative_to(tmp_path)) for row in rows]

    assert listed('a*.jpg', 'sub') == ['a1.jpg', 'a2.jpg', 'sub/a3.jpg']
    assert listed('**/a?.jpg') == ['a1.jpg', 'a2.jpg', 'sub/a3.jpg']
    assert listed('b[1].jpg') == ['b[1].jpg']  # there is one of this name
    assert listed('a[13-9].jpg') == ['a1.jpg']
    with pytest.raises(FileNotFoundError, match=r'nothing is called like .*/c\*\.jpg'):
        listed('c*.jpg')
    assert expanded('s3://b/{08..10}/{0..1}.tar') == [
        f's3://b/{folder}/{tar}.tar' for folder in ('08', '09', '10') for tar in (0, 1)
    ]
    store = fsspec.filesystem('memory')
    for name in ('/x/a.jpg', '/x/b.jpg'):
        store.pipe_file(name, b'')
    assert expanded('memory://x/*.jpg') == ['memory:///x/a.jpg', 'memory:///x/b.jpg']


def test_a_folder_of_tars(tmp_path):
    for name in ('b.tar', 'a.tar', 'a.json'):
        (tmp_path / name).touch()
    listing = make_listing(tmp_path, tmp_path / 'l')
    assert listing.kind == 'tars'
    assert [row['path'] for row in rows(tmp_path / 'l')] == [
        str(tmp_path / 'a.tar'),
        str(tmp_path / 'b.tar'),
    ]


def test_a_folder_that_can_not_be_listed(tmp_path, monkeypatch):
    for name in ('a', 'b/locked', 'c'):
        (tmp_path / 'in' / name).mkdir(parents=True)
        (tmp_path / 'in' / name / 'x.jpg').touch()
    memory = fsspec.filesystem('memory')
    memory.pipe({'/in/a/x.jpg': b'', '/in/b/locked/x.jpg': b'', '/in/c/x.jpg': b''})
    for system, address, error, match in (
        (fsspec.filesystem('file'), str(tmp_path / 'in'), PermissionError, '/in/b/locked'),
        (memory, 'memory://in', OSError, 'memory:///in/b/locked can not be reached: 503'),
    ):
        ls = type(system).ls

        def some(self, path, detail=False, ls=ls, **options):
            if path.endswith('/locked'):
                raise OSError('503') if self is memory else PermissionError(13, 'no', path)
            return ls(self, path, detail=detail, **options)

        assert len(make_listing(address, tmp_path / address[-3:-1]).ids) == 3
        monkeypatch.setattr(type(system), 'ls', some)
        with pytest.raises(error, match=match):
            make_listing(address, tmp_path / 'l')
        assert not (tmp_path / 'l').exists()


def test_a_folder_that_is_removed_meanwhile(tmp_path, monkeypatch):
    for name in ('a', 'b'):
        (tmp_path / 'in' / name).mkdir(parents=True)
        (tmp_path / 'in' / name / 'x.jpg').touch()
    local = type(fsspec.filesystem('file'))
    ls = local.ls

    def some(self, path, detail=False, **options):
        if path.endswith('/a'):
            raise FileNotFoundError(path)
        return ls(self, path, detail=detail, **options)

    monkeypatch.setattr(local, 'ls', some)
    make_listing(tmp_path / 'in', tmp_path / 'l')
    assert [row['path'] for row in rows(tmp_path / 'l')] == [f'{tmp_path}/in/b/x.jpg']


def test_a_name_that_is_not_utf_8(tmp_path):
    (tmp_path / 'a\udcff.jpg').touch()
    with pytest.raises(ValueError, match='a name that is not UTF-8'):
        make_listing(tmp_path, tmp_path / 'l')


@pytest.mark.parametrize(
    'protocol, package, extra',
    [
        ('s3', 's3fs', 's3'),
        ('gs', 'gcsfs', 'gs'),
        ('http', 'aiohttp', 'http'),
        ('https', 'aiohttp', 'http'),
    ],
)
def test_addresses_without_the_package(monkeypatch, protocol, package, extra):
    monkeypatch.setattr('mmtagclip.extras.find_spec', lambda name: None)
    with pytest.raises(ImportError, match=f'{protocol}:// needs {package}: pip install .*{extra}'):
        file_system(f'{protocol}://bucket/a')


def test_an_unknown_protocol():
    with pytest.raises(ValueError, match='nowhere://a can not be opened: Protocol not known'):
        file_system('nowhere://a')


def test_names_that_no_file_can_have_are_not_there():
    assert fetch(['/a\0.jpg', f'/{"x" * 300}.jpg']) == [None, None]
    assert not is_there(f'/{"x" * 300}.jpg')


def test_addresses_of_files_and_archives(tmp_path):
    with zipfile.ZipFile(tmp_path / 'a.zip', 'w') as archive:
        archive.writestr('b/c.jpg', b'c')
    make_listing(f'zip://::{tmp_path}/a.zip', tmp_path / 'z')
    (row,) = rows(tmp_path / 'z')
    assert row['path'] == f'zip://b/c.jpg::{tmp_path}/a.zip'
    (tmp_path / 'd.jpg').write_bytes(b'd')
    make_listing(f'file://{tmp_path}/d.jpg', tmp_path / 'f')
    assert rows(tmp_path / 'f') == [{'id': 0, 'path': f'{tmp_path}/d.jpg'}]
    assert fetch([row['path'], f'file://{tmp_path}/d.jpg']) == [b'c', b'd']
    assert Place(f'file://{tmp_path}').is_local


def test_what_is_not_there_is_told_from_other_trouble(tmp_path, monkeypatch):
    (tmp_path / 'a[1].jpg').write_bytes(b'a')
    (tmp_path / 'empty').write_bytes(b'')
    memory = fsspec.filesystem('memory')
    memory.pipe_file('/m/b.jpg', b'b')
    paths = [tmp_path / 'a[1].jpg', tmp_path / 'no', tmp_path, tmp_path / 'empty' / 'x']
    addresses = ['memory://m/b.jpg', 'memory://m/c.jpg']
    found = fetch([*map(str, paths), *addresses, str(tmp_path / 'empty')])
    assert found == [b'a', None, None, None, b'b', None, b'']

    calls = []

    def overloaded(*_, **__):
        calls.append(1)
        if len(calls) != good:
            raise OSError('503 Slow Down')
        return b'b'

    monkeypatch.setattr('mmtagclip.batch.fetch.PAUSES', (0, 0, 0))
    monkeypatch.setattr(type(memory), 'cat_file', overloaded)
    good = 3
    assert fetch([str(paths[0]), addresses[0]]) == [b'a', b'b']
    good = -1
    with pytest.raises(OSError, match=r'memory://m/b\.jpg could not be fetched: 503 Slow Down'):
        fetch([str(paths[0]), addresses[0]])


class Refused(Exception):
    """What a store raises that knows no ``OSError``."""


def refuse(*_, **__):
    raise Refused('503')


@pytest.mark.parametrize(
    'method, use',
    [
        ('ls', lambda place: place.files()),
        ('ls', lambda place: place.is_empty()),
        ('cat_file', lambda place: place.read('a.txt')),
        ('put_file', lambda place: place.write('b.txt', b'')),
        ('put_file', lambda place: write_at('memory://troubled/b.txt', b'')),
        ('open', lambda place: place.open('a.txt')),
        ('rm', lambda place: place.remove('a.txt')),
        ('open', lambda place: digest_of('memory://troubled/a.txt')),
        ('info', lambda place: digest_of('memory://troubled/a.txt')),
        ('info', lambda place: make_listing('memory://troubled', place)),
        ('ls', lambda place: make_listing('memory://troubled', place)),
        ('open', lambda place: make_listing('memory://troubled/a.txt', place)),
    ],
)
def test_trouble_of_a_store_names_the_place(monkeypatch, method, use):
    memory = fsspec.filesystem('memory')
    memory.pipe_file('/troubled/a.txt', b'a.jpg')
    place = Place('memory://troubled')
    monkeypatch.setattr(type(memory), method, refuse)
    if method == 'ls':
        monkeypatch.setattr(type(memory), 'find', refuse)
    with pytest.raises(OSError, match=r'memory:///?troubled.* can not be reached: 503'):
        use(place)


def test_a_list_that_can_not_be_read_to_its_end(monkeypatch, tmp_path):
    memory = fsspec.filesystem('memory')
    memory.pipe_file('/troubled/a.csv', b'path\na.jpg\n')
    monkeypatch.setattr(type(memory), 'open', lambda *_, **__: Torn(b'path\na'))
    with pytest.raises(OSError, match=r'memory://troubled/a\.csv can not be reached: 503'):
        make_listing('memory://troubled/a.csv', tmp_path)


class Torn(io.BytesIO):
    """A file of a store that fails at its end."""

    def read(self, size=-1):
        """What there is; then an error."""
        return super().read(size) or refuse()


def test_stores_without_access(monkeypatch, tmp_path, capsys, folder):
    s3fs = pytest.importorskip('s3fs')
    for name in [name for name in os.environ if name.startswith('AWS_')]:
        monkeypatch.delenv(name)
    monkeypatch.setenv('AWS_EC2_METADATA_DISABLED', 'true')
    monkeypatch.setenv('AWS_SHARED_CREDENTIALS_FILE', os.devnull)
    monkeypatch.setenv('AWS_CONFIG_FILE', os.devnull)
    s3fs.S3FileSystem.clear_instance_cache()
    for words in (
        ['list', 's3://b/x', '--out', str(tmp_path / 'l')],
        ['list', str(folder), '--out', 's3://b/x'],
    ):
        assert cli.main(words) == 2
        assert 's3://b/x' in (error := capsys.readouterr().err)
        assert error.endswith(': Unable to locate credentials\n')
        assert error.count('\n') == 1
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.parametrize('error', [OSError(errno.EIO, 'worn'), PermissionError('403')])
def test_trouble_that_may_pass_is_raised(monkeypatch, tmp_path, error):
    """A disk that is worn, and a store without access."""
    path = str(tmp_path / 'a.jpg') if error.errno else 'memory://a.jpg'

    def fail(*_, **__):
        raise error

    monkeypatch.setattr('mmtagclip.batch.fetch.PAUSES', (0,))
    monkeypatch.setattr(type(file_system(path)[0]), 'cat_file', fail)
    with pytest.raises(OSError, match=r'a\.jpg could not be fetched: .*(worn|403)'):
        fetch([path])


def test_the_command(tmp_path, folder, capsys):
    place = fsspec.filesystem('memory')
    place.pipe_file('/photos/a/x.jpg', b'x')
    place.pipe_file('/photos/y.png', b'y')
    assert cli.main(['list', 'memory://photos', '--out', 'memory://listing']) == 0
    assert '2 images in memory://listing/listing.parquet' in capsys.readouterr().err
    with place.open('/listing/listing.parquet', 'rb') as file:
        assert parquet.read_table(file).column('path').to_pylist() == [
            'memory:///photos/a/x.jpg',
            'memory:///photos/y.png',
        ]
    assert cli.main(['list', str(folder), '--out', 'memory://listing']) == 2
    assert 'exists already' in capsys.readouterr().err
    assert cli.main(['list', str(folder), '--out', str(tmp_path / 'l'), '--column', 'x']) == 0
    assert np.asarray(read_listing(Place(str(tmp_path / 'l'))).ids).dtype == np.int64
