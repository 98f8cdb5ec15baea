"""Files that appear whole or not at all."""

import os
import stat
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from mmtagclip.files import (
    append_lines,
    make_folder,
    read_text,
    real_path,
    safetensors_content,
    split_lines,
    sync_folder,
    user_path,
    whole_lines,
    write_whole,
)
from tests.forgetful import Forgetful

ODD = ['\u2028', '\u2029', '\x85', '\x0b', '\x0c', '\x1c', '\x1d', '\x1e']


def test_at_any_moment_the_old_or_the_new_is_there(tmp_path, monkeypatch):
    path = tmp_path / 'a.json'
    with monkeypatch.context() as patch:
        disk = Forgetful(tmp_path, patch)
        write_whole(path, b'old')
        first = len(disk.failures)
        write_whole(path, b'n', [b'e', b'w'])
    for number, failure in enumerate(disk.failures):
        for files in failure:
            allowed = {None, b'old'} if number < first else {b'old', b'new'}
            assert files.get('a.json') in allowed
    assert disk.failures[first - 1][0]['a.json'] == b'old'
    assert disk.failures[-1][0]['a.json'] == b'new'
    assert path.read_bytes() == b'new'


def test_new_folders_are_flushed_too(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        disk = Forgetful(tmp_path, patch)
        write_whole(tmp_path / 'a/b/c.txt', b'new')
    assert disk.failures[-1][0] == {'a/b/c.txt': b'new'}


@pytest.mark.parametrize('kind', ['folder', 'file'])
def test_a_folder_that_another_process_makes_first(tmp_path, monkeypatch, kind):
    path, mkdir = tmp_path / 'a', os.mkdir

    def late(folder):
        (mkdir if kind == 'folder' else Path.touch)(Path(folder))
        raise FileExistsError(folder)

    monkeypatch.setattr(os, 'mkdir', late)
    with nullcontext() if kind == 'folder' else pytest.raises(FileExistsError):
        make_folder(path)


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / 'a.txt'
    write_whole(path, b'old')

    def broken():
        yield b'half'
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(path, broken())
    assert os.listdir(tmp_path) == ['a.txt']
    assert path.read_bytes() == b'old'


def test_links_are_not_followed(tmp_path):
    (tmp_path / 'target').write_bytes(b'theirs')
    (tmp_path / 'a.txt').symlink_to(tmp_path / 'target')
    write_whole(tmp_path / 'a.txt', b'ours')
    assert (tmp_path / 'target').read_bytes() == b'theirs'
    (tmp_path / 'b.txt').symlink_to(tmp_path / 'target')
    with pytest.raises(OSError, match='symbolic links'):
        append_lines(tmp_path / 'b.txt', b'ours\n')
    assert (tmp_path / 'target').read_bytes() == b'theirs'


def test_temporary_names_can_not_be_guessed(tmp_path, monkeypatch):
    names = []
    real = os.open

    def watched(path, flags, *args):
        if flags & os.O_CREAT:
            assert flags & os.O_EXCL
            names.append(os.path.basename(path))
        return real(path, flags, *args)

    monkeypatch.setattr(os, 'open', watched)
    for _ in range(2):
        write_whole(tmp_path / ('ü' * 120), b'')  # as long as a name may be
    assert len(set(names)) == 2
    assert all(name.startswith('.') and name.endswith('.part') for name in names)


def test_rights_are_those_of_any_new_file(tmp_path):
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / 'a', b'')
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / 'a').stat().st_mode) == 0o640


def test_a_scratch_folder(tmp_path):
    (tmp_path / 'scratch').mkdir()

    def content():
        assert os.listdir(tmp_path / 'scratch')
        yield b'x'

    write_whole(tmp_path / 'a', content(), scratch=tmp_path / 'scratch')
    assert os.listdir(tmp_path / 'scratch') == []
    sync_folder(tmp_path)


def test_appended_lines_are_safe(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        disk = Forgetful(tmp_path, patch)
        append_lines(tmp_path / 'a', b'1\n')
        append_lines(tmp_path / 'a', b'2\n')
    assert disk.failures[-1][0] == {'a': b'1\n2\n'}


@pytest.mark.parametrize('odd', ODD)
def test_lines_end_at_newlines_alone(tmp_path, odd):
    path = tmp_path / 'a'
    path.write_bytes(f'a{odd}b\n\nc{odd}\r\nhalf'.encode())
    assert split_lines(read_text(path, 'list')) == [f'a{odd}b', '', f'c{odd}', 'half']
    assert list(whole_lines(path)) == [f'a{odd}b\n'.encode(), b'\n', f'c{odd}\r\n'.encode()]


@pytest.mark.parametrize(
    ('text', 'lines'),
    [
        ('', []),
        ('\n', ['']),
        ('a', ['a']),
        ('a\n', ['a']),
        ('a\n\n', ['a', '']),
        ('a\rb', ['a\rb']),
    ],
)
def test_split_lines(text, lines):
    assert split_lines(text) == lines


def test_only_the_own_home_folder_is_expanded(monkeypatch):
    monkeypatch.setenv('HOME', '/home/me')
    for text, path in [
        ('~', '/home/me'),
        ('~/a/~', '/home/me/a/~'),
        ('~a.jpg', '~a.jpg'),
        ('~nobody/a', '~nobody/a'),
        ('a/~/b', 'a/~/b'),
        ('', '.'),
    ]:
        assert user_path(text) == user_path(Path(text)) == Path(path)


def test_a_link_that_leads_to_itself_has_a_real_path(tmp_path):
    loop = tmp_path / 'loop'
    loop.symlink_to(loop)
    assert real_path(loop / 'a.jpg') == loop / 'a.jpg'
    (tmp_path / 'link').symlink_to(tmp_path)
    assert real_path(tmp_path / 'link' / 'a') == Path(os.path.realpath(tmp_path)) / 'a'


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'caf\xe9', r'a\.txt is not a UTF-8 text file \(.*\): save the tag file as UTF-8'),
        (b'\xff\xd8\xff', 'is not a UTF-8 text file'),
        (b'PK\x03\x04', r'a\.txt is not a text file: give a tag file in UTF-8'),
        (None, r'no tag file at .*a\.txt'),
    ],
)
def test_text_of_a_user_is_refused(content, message, tmp_path):
    if content is not None:
        (tmp_path / 'a.txt').write_bytes(content)
    error = FileNotFoundError if content is None else ValueError
    with pytest.raises(error, match=message):
        read_text(tmp_path / 'a.txt', 'tag file')


def test_text_of_a_user_without_its_mark(tmp_path):
    (tmp_path / 'a.txt').write_bytes(b'\xef\xbb\xbfa\r\nb\x0b\n')
    assert read_text(tmp_path / 'a.txt', 'list') == 'a\nb\x0b\n'


@pytest.mark.parametrize('length', range(9))
def test_safetensors_are_read_by_their_library(tmp_path, length):
    """Also one of a length and of types that need no filling, and an empty one."""
    numbers, halves = np.arange(6, dtype='<f4').reshape(2, 3), np.arange(5, dtype='<f2')
    content = b''.join(
        safetensors_content(
            {
                'a': ('F32', (2, 3), [numbers[:1].tobytes(), numbers[1:].tobytes()]),
                'b': ('F16', (5,), [halves.tobytes()]),
                'c': ('U8', (0,), []),
            },
            {'about': 'x' * length},
            'advice',
        )
    )
    assert int.from_bytes(content[:8], 'little') % 8 == 0  # numbers are where they can be mapped
    (tmp_path / 'a.safetensors').write_bytes(content)
    with safe_open(tmp_path / 'a.safetensors', 'np') as file:
        assert file.metadata() == {'about': 'x' * length}
        assert np.array_equal(file.get_tensor('a'), numbers)
        assert np.array_equal(file.get_tensor('b'), halves)
        assert file.get_tensor('c').shape == (0,)
