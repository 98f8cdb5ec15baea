"""Pseudo labels on disk survive whatever happens to the job that writes them."""

import errno
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time

import pytest

from mmtagclip.jobs.pseudo_labels import Manifest, PseudoLabelWriter, read_pseudo_labels
from tests.processes import ROOT, run

COUNT = 60
MANIFEST = Manifest('masks', ('background', 'dog'), COUNT, model='m', version='1')


def record(index):
    return {'image': f'bilder/ü{index}.jpg', 'tags': ['dog'] * (index % 3)}


def files(index):
    return {'masks.png': bytes([index]) * 4000, 'probabilities.npz': f'{index}'.encode() * 100}


def work(root, pause=0.0, count=COUNT):
    """The whole job: does what is missing, three images a commit."""
    writer = PseudoLabelWriter(
        root, Manifest('masks', ('background', 'dog'), count, model='m', version='1')
    )
    for index in range(count):
        if index not in writer.done:
            writer.add(index, record(index), files(index))
            time.sleep(pause)
            if index % 3 == 2:
                writer.commit()
    return writer.finish()


def content(root):
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob('*'))
        if path.is_file()
    }


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
    root = tmp_path_factory.mktemp('undisturbed')
    assert work(root)
    return content(root)


def test_layout(undisturbed):
    assert len(undisturbed) == 2 + 2 * COUNT
    assert undisturbed['masks/000000/000000007.png'] == b'\x07' * 4000
    lines = undisturbed['labels.jsonl'].decode().splitlines()
    assert json.loads(lines[7]) == {
        **record(7),
        'masks': 'masks/000000/000000007.png',
        'probabilities': 'probabilities/000000/000000007.npz',
    }


def test_a_thousand_images_a_folder(tmp_path):
    writer = PseudoLabelWriter(tmp_path, Manifest('masks', ('a',), 3))
    writer.add(123456, record(1), {'masks.png': b'x'})
    writer.commit()
    assert (tmp_path / 'masks/000123/000123456.png').read_bytes() == b'x'


def test_killed_at_random_points_the_result_is_the_same(tmp_path, undisturbed):
    context = multiprocessing.get_context('fork')
    chance, kills = random.Random(0), 0
    while kills < 25:
        worker = context.Process(target=work, args=(tmp_path, 0.004))
        worker.start()
        worker.join(chance.uniform(0.001, 0.06))
        if worker.is_alive():
            os.kill(worker.pid, signal.SIGKILL)
            worker.join()
            kills += 1
        else:  # done sooner than all kills: begin anew
            assert content(tmp_path) == undisturbed
            for path in sorted(tmp_path.rglob('*'), reverse=True):
                path.unlink() if path.is_file() else path.rmdir()
        if (tmp_path / 'manifest.json').exists() and not (tmp_path / 'labels.jsonl').exists():
            with pytest.raises(ValueError, match='not finished'):
                read_pseudo_labels(tmp_path)
    assert work(tmp_path)
    assert content(tmp_path) == undisturbed


def test_nothing_committed_is_done_twice(tmp_path):
    writer = PseudoLabelWriter(tmp_path, MANIFEST)
    for index in range(10):
        writer.add(index, record(index), files(index))
    writer.commit()
    writer.add(10, record(10), files(10))  # never committed
    assert PseudoLabelWriter(tmp_path, MANIFEST).done == set(range(10))


@pytest.mark.parametrize('seed', range(5))
def test_a_full_disk_loses_nothing(tmp_path, undisturbed, monkeypatch, seed):
    chance = random.Random(seed)
    real = os.fsync

    def sometimes_full(handle):
        if chance.random() < 0.05:
            raise OSError(errno.ENOSPC, 'No space left on device')
        real(handle)

    monkeypatch.setattr(os, 'fsync', sometimes_full)
    failures = 0
    for _ in range(500):
        try:
            if work(tmp_path):
                break
        except OSError as error:
            failures += error.errno == errno.ENOSPC
    assert failures
    assert content(tmp_path) == undisturbed


FULL_DISK = """
import errno, subprocess, sys
from pathlib import Path
from tests.jobs.test_pseudo_labels import content, work
disk, out = map(Path, sys.argv[1:])
subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=120k', 'tmpfs', disk], check=True)
for size in (120, 200, 280):
    subprocess.run(['mount', '-o', f'remount,size={size}k', disk], check=True)
    try:
        work(disk / 'labels')
    except OSError as error:
        assert error.errno == errno.ENOSPC
    else:
        raise AssertionError('the disk was not full')
    assert not (disk / 'labels' / 'labels.jsonl').exists()
subprocess.run(['mount', '-o', 'remount,size=8m', disk], check=True)
assert work(disk / 'labels')
for name, data in content(disk / 'labels').items():
    (out / name).parent.mkdir(parents=True, exist_ok=True)
    (out / name).write_bytes(data)
"""
NAMESPACE = ['unshare', '--map-root-user', '--mount']


@pytest.mark.skipif(
    shutil.which('unshare') is None or run(*NAMESPACE, 'true').returncode != 0,
    reason='needs a file system of its own',
)
def test_a_really_full_disk(tmp_path, undisturbed):
    disk, out = tmp_path / 'disk', tmp_path / 'out'
    disk.mkdir()
    process = run(*NAMESPACE, sys.executable, '-c', FULL_DISK, disk, out, PYTHONPATH=str(ROOT))
    assert process.returncode == 0, process.stderr
    assert content(out) == undisturbed


def test_a_writer_goes_on_after_a_line_that_was_cut_off(tmp_path, undisturbed, monkeypatch):
    """The disk is full in the middle of a line, and the same writer tries again."""
    writer = PseudoLabelWriter(tmp_path, MANIFEST)
    for index in range(6):
        writer.add(index, record(index), files(index))
    full = {'now': True}
    real = os.fsync

    def journal():
        return b''.join(path.read_bytes() for path in tmp_path.glob('journal/*'))

    def cut_off(handle):
        if b'\t' in journal() and full.pop('now', False):
            os.ftruncate(handle, os.fstat(handle).st_size - 9)
            raise OSError(errno.ENOSPC, 'No space left on device')
        real(handle)

    monkeypatch.setattr(os, 'fsync', cut_off)
    with pytest.raises(OSError, match='No space left'):
        writer.commit()
    writer.commit()
    assert PseudoLabelWriter(tmp_path, MANIFEST).done == set(range(6))
    assert work(tmp_path)
    assert content(tmp_path) == undisturbed


def test_two_writers_at_once(tmp_path, undisturbed):
    context = multiprocessing.get_context('fork')
    for attempt in range(5):
        root = tmp_path / str(attempt)
        workers = [context.Process(target=work, args=(root, pause)) for pause in (0.001, 0.002)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert [worker.exitcode for worker in workers] == [0, 0]
        assert content(root) == undisturbed


def test_a_line_that_was_cut_off_is_done_again(tmp_path, undisturbed):
    writer = PseudoLabelWriter(tmp_path, MANIFEST)
    for index in range(6):
        writer.add(index, record(index), files(index))
    writer.commit()
    (journal,) = (tmp_path / 'journal').iterdir()
    journal.write_bytes(journal.read_bytes()[:-9])
    assert PseudoLabelWriter(tmp_path, MANIFEST).done == set(range(5))
    assert work(tmp_path)
    assert content(tmp_path) == undisturbed


def test_a_finished_job_changes_nothing(tmp_path, undisturbed):
    work(tmp_path)
    assert PseudoLabelWriter(tmp_path, MANIFEST).done == set(range(COUNT))
    assert work(tmp_path)
    assert content(tmp_path) == undisturbed


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'classes': ('background', 'cat')}, r"classes is \('background', 'dog'\), now it is"),
        ({'weights': 'abc'}, "weights is '', now it is 'abc'"),
        ({'num_images': 3}, 'num_images is 60, now it is 3'),
    ],
)
def test_another_job_s_folder_is_refused(tmp_path, change, message):
    PseudoLabelWriter(tmp_path, MANIFEST)
    changed = Manifest(**{**MANIFEST.__dict__, **change})
    with pytest.raises(ValueError, match=f'begun by another job: its {message}'):
        PseudoLabelWriter(tmp_path, changed)


def test_reading(tmp_path):
    work(tmp_path)
    manifest, records = read_pseudo_labels(tmp_path, ['background', 'dog'])
    assert manifest == MANIFEST
    assert [one['image'] for one in records] == [record(i)['image'] for i in range(COUNT)]


@pytest.mark.parametrize(
    ('classes', 'message'),
    [
        (['background', 'cat'], "class 1 is 'dog' there and 'cat' here"),
        (['dog', 'background'], "class 0 is 'background' there and 'dog' here"),
        (['background'], '2 there and 1 here'),
    ],
)
def test_other_classes_are_refused(tmp_path, classes, message):
    work(tmp_path, count=1)
    with pytest.raises(ValueError, match=f'labels of other classes: {message}'):
        read_pseudo_labels(tmp_path, classes)


def test_unreadable_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match='holds no pseudo labels'):
        read_pseudo_labels(tmp_path)
    (tmp_path / 'manifest.json').write_text('{"kind": "tags"')
    with pytest.raises(ValueError, match='is no manifest of pseudo labels'):
        read_pseudo_labels(tmp_path)
    (tmp_path / 'manifest.json').write_text('{"kind": "boxes", "classes": [], "num_images": 0}')
    with pytest.raises(ValueError, match="not 'boxes'"):
        read_pseudo_labels(tmp_path)
