"""Results on disk survive whatever happens to the job that writes them."""

import dataclasses
import errno
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time

import pytest

from mmtagclip.jobs.description import Source
from mmtagclip.jobs.pseudo_labels import read_pseudo_labels
from mmtagclip.jobs.runner import (
    Job,
    Manifest,
    _cut,
    _few,
    check_folder,
    is_half_removed,
    read_results,
    remove_results,
)
from mmtagclip.records import ImageRecord
from tests.forgetful import Forgetful, restore
from tests.processes import ROOT, run

COUNT = 60
MANIFEST = Manifest('masks', ('background', 'dog'), {'model': 'm'})


def name(index):
    return f'bilder/ü{index}.jpg'


def record(index):
    return ImageRecord(name(index), ('dog',) * (index % 3))


def files(index):
    return {'masks.png': bytes([index]) * 4000, 'probabilities.npz': f'{index}'.encode() * 100}


def sources(count=COUNT):
    return [Source(name(index), [index, 7]) for index in range(count)]


def begin(root, manifest=MANIFEST, images=None, **options):
    return Job(root, manifest, sources() if images is None else images, **options)


def work(root, pause=0.0, count=COUNT, **options):
    """The whole job: does what is missing, three images a commit."""
    job = begin(root, images=sources(count), commit_seconds=1e9, **options)
    for index in range(count):
        if index not in job.done:
            job.add(index, record(index), files(index))
            time.sleep(pause)
            if index % 3 == 2:
                job.commit()
    return job.finish()


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
    assert len(undisturbed) == 3 + 2 * COUNT
    assert undisturbed['classes.txt'] == b'background\ndog\n'
    lines = undisturbed['labels.jsonl'].decode().splitlines()
    for index in (0, 7):
        line = json.loads(lines[index])
        masks, probabilities = (
            hashlib.sha256(files(index)[kind]).hexdigest()[:16]
            for kind in ('masks.png', 'probabilities.npz')
        )
        assert len(line.pop('digest')) == 16
        assert line == {
            **record(index).to_dict(),
            'masks': f'masks/ü{index}.png',
            'probabilities': f'probabilities/ü{index}.npz',
            'files': {'masks.png': masks, 'probabilities.npz': probabilities},
            'source': [index, 7],
        }
        assert undisturbed[line['masks']] == files(index)['masks.png']


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
        else:  # finished before all kills: start again
            assert content(tmp_path) == undisturbed
            remove_results(tmp_path)
            assert not tmp_path.exists()
        if (tmp_path / 'manifest.json').exists() and not (tmp_path / 'labels.jsonl').exists():
            with pytest.raises(ValueError, match='not finished'):
                read_pseudo_labels(tmp_path)
    assert work(tmp_path)
    assert content(tmp_path) == undisturbed


def test_nothing_committed_is_done_twice(tmp_path):
    job = begin(tmp_path)
    for index in range(10):
        job.add(index, record(index), files(index))
    job.commit()
    job.add(10, record(10), files(10))  # never committed
    assert begin(tmp_path).done == set(range(10))


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
import dataclasses
import errno, subprocess, sys
from pathlib import Path
from tests.jobs.test_runner import content, work
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
    """The disk is full in the middle of a line, and the same job tries again."""
    job = begin(tmp_path)
    for index in range(6):
        job.add(index, record(index), files(index))
    full = {'now': True}
    real = os.fsync

    def journal():
        return b''.join(path.read_bytes() for path in tmp_path.glob('.unfinished/*.jsonl'))

    def cut_off(handle):
        if b'\n' in journal() and full.pop('now', False):
            os.ftruncate(handle, os.fstat(handle).st_size - 9)
            raise OSError(errno.ENOSPC, 'No space left on device')
        real(handle)

    monkeypatch.setattr(os, 'fsync', cut_off)
    with pytest.raises(OSError, match='No space left'):
        job.commit()
    job.commit()
    assert begin(tmp_path).done == set(range(6))
    assert work(tmp_path)
    assert content(tmp_path) == undisturbed


def test_two_jobs_at_once(tmp_path, undisturbed):
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
    job = begin(tmp_path)
    for index in range(6):
        job.add(index, record(index), files(index))
    job.commit()
    (journal,) = tmp_path.glob('.unfinished/*.jsonl')
    journal.write_bytes(journal.read_bytes()[:-9])
    assert begin(tmp_path).done == set(range(5))
    assert work(tmp_path)
    assert content(tmp_path) == undisturbed


def test_a_finished_job_changes_nothing(tmp_path, undisturbed):
    work(tmp_path)
    assert begin(tmp_path).done == set(range(COUNT))
    assert work(tmp_path)
    assert content(tmp_path) == undisturbed


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'classes': ('background', 'cat')}, r"classes was \['background', 'dog'\], now it is"),
        ({'kind': 'tags'}, "kind was 'masks', now it is 'tags'"),
        ({'version': '0'}, "version was '.*', now it is '0'"),
        ({'job': {'model': 'm', 'k': 1}}, 'k was not there, now it is 1'),
        ({'job': {'model': 'other'}}, "model was 'm', now it is 'other'"),
    ],
)
def test_another_job_s_folder_is_refused(tmp_path, change, message):
    begin(tmp_path)
    before = content(tmp_path)
    with pytest.raises(ValueError, match=f'was begun by another job: {message}'):
        begin(tmp_path, dataclasses.replace(MANIFEST, **change))
    assert content(tmp_path) == before


def test_more_differences_than_are_named(tmp_path):
    begin(tmp_path, Manifest('tags', ('a',), {str(number): number for number in range(5)}))
    with pytest.raises(ValueError, match=r'0 was 0, now it is 1; .*\(and 2 more differences\)'):
        begin(tmp_path, Manifest('tags', ('a',), {str(number): number + 1 for number in range(5)}))


def run_on(root, images, **options):
    """Do what is missing of other images; returns the job and the names of those done now."""
    job = begin(root, images=images, **options)
    now = [index for index in range(len(images)) if index not in job.done]
    for index in now:
        job.add(index, ImageRecord(images[index].name, ('dog',)), {'masks.png': b'%d' % index})
    assert job.finish()
    return job, [images[index].name for index in now]


def names_in(root):
    return [one.image for one in read_results(root)[1]]


@pytest.mark.parametrize('finished', [True, False])
def test_images_that_are_added_removed_renamed_or_changed(tmp_path, finished):
    images = [Source(f'{letter}.jpg', [1, 1]) for letter in 'abcdef']
    if finished:
        run_on(tmp_path, images)
    else:
        job = begin(tmp_path, images=images)
        for index in range(5):
            job.add(index, ImageRecord(images[index].name, ('dog',)), {'masks.png': b'%d' % index})
        job.commit()
    now = [
        Source('new.jpg', [1, 1]),
        images[0],
        Source('b.jpg', [1, 2]),  # changed
        images[4],
        Source('renamed.jpg', [1, 1]),
    ]
    job, done_now = run_on(tmp_path, now)
    assert done_now == ['new.jpg', 'b.jpg', 'renamed.jpg']
    assert names_in(tmp_path) == [image.name for image in now]
    assert check_folder(tmp_path) == []
    notes = ' '.join(job.notes)
    assert 'the job had 6 images before, now it has 5' in notes
    assert 'are dropped, as they are no longer among the images: c.jpg, d.jpg' in notes
    assert '1 results are done again, as their files have changed: b.jpg' in notes
    used = {one.more['masks'] for one in read_results(tmp_path)[1]}
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.glob('masks/*')} == used


def test_the_same_images_in_another_order(tmp_path):
    run_on(tmp_path, sources(5))
    _, done_now = run_on(tmp_path, sources(5)[::-1])
    assert done_now == []
    assert names_in(tmp_path) == [name(index) for index in reversed(range(5))]


@pytest.mark.parametrize(
    'others', [sources(5)[:4], sources(6), [*sources(4), Source(name(4), [4, 8])], sources(5)[::-1]]
)
def test_shards_with_other_images_are_refused(tmp_path, others):
    begin(tmp_path, images=sources(5), fixed_images=True)
    begin(tmp_path, images=sources(5), fixed_images=True)
    with pytest.raises(ValueError, match='was begun with other images: 5 there'):
        begin(tmp_path, images=others, fixed_images=True)


def test_what_a_resumed_job_says_is_said_once(tmp_path):
    job = begin(tmp_path, images=sources(3))
    for index in range(2):
        job.add(index, record(index))
    job.commit()
    job = begin(tmp_path, images=sources(1))
    notes = list(job.notes)
    assert len(notes) == 2
    assert job.finish()
    assert job.notes == notes


def test_an_image_that_is_listed_twice(tmp_path):
    images = [*sources(2), sources(2)[0]]
    run_on(tmp_path, images)
    assert names_in(tmp_path) == [image.name for image in images]
    assert begin(tmp_path, images=images).done == {0, 1, 2}


def test_images_that_could_not_be_read_are_tried_again(tmp_path):
    images = sources(3)
    for attempt in range(2):
        job = begin(tmp_path, images=images)
        assert job.done == ({0, 1} if attempt else set())
        for index in range(2 * attempt, 3):
            job.add(
                index, ImageRecord(images[index].name, error='no') if index == 2 else record(index)
            )
        assert job.finish()
    job = begin(tmp_path, images=images)
    assert job.left([[0, 1], [2]]) == [[2]]
    job.add(2, record(2))
    assert job.finish()
    assert [one.error for one in read_results(tmp_path)[1]] == [None] * 3


def flipped(data, chance):
    place = chance.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :]


@pytest.mark.parametrize('where', ['.unfinished/*.jsonl', 'labels.jsonl', 'masks/*'])
def test_a_flipped_bit_is_mended_or_refused_never_believed(tmp_path, where):
    chance, images = random.Random(0), sources(6)
    whole = tmp_path / 'whole'
    run_on(whole, images)
    for attempt in range(60):
        root = tmp_path / str(attempt)
        if where.startswith('.unfinished'):
            job = begin(root, images=images)
            for index in range(5):
                job.add(
                    index, ImageRecord(images[index].name, ('dog',)), {'masks.png': b'%d' % index}
                )
            job.commit()
        else:
            shutil.copytree(whole, root)
        path = chance.choice(sorted(root.glob(where)))
        path.write_bytes(flipped(path.read_bytes(), chance))
        if not where.startswith('.unfinished'):
            assert len(check_folder(root)) >= 1
        if where == 'labels.jsonl':
            with pytest.raises(ValueError, match='start the job that writes them again'):
                read_results(root)
        run_on(root, images)
        assert content(root) == content(whole)
        assert check_folder(root) == []


def test_a_changed_manifest_is_refused(tmp_path):
    chance = random.Random(0)
    run_on(tmp_path, sources(2))
    path = tmp_path / 'manifest.json'
    whole = path.read_bytes()
    for _ in range(60):
        path.write_bytes(flipped(whole, chance))
        if path.read_bytes().split() == whole.split():
            continue
        with pytest.raises(ValueError, match='is no manifest of results'):
            begin(tmp_path, images=sources(2))
        assert 'is no manifest of results' in check_folder(tmp_path)[0]


def test_checking_a_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match='holds no results'):
        check_folder(tmp_path)
    begin(tmp_path, images=sources(3))
    assert 'are not finished' in check_folder(tmp_path)[0]
    run_on(tmp_path, sources(3))
    masks = [one.more['masks'] for one in read_results(tmp_path)[1]]
    (tmp_path / masks[0]).unlink()
    (tmp_path / masks[1]).write_bytes(b'other')
    lines = (tmp_path / 'labels.jsonl').read_bytes().splitlines(keepends=True)
    (tmp_path / 'labels.jsonl').write_bytes(b''.join(lines[:2]))
    missing, damaged, few = check_folder(tmp_path)
    assert missing.endswith('of bilder/ü0.jpg, is missing')
    assert damaged.endswith('of bilder/ü1.jpg, is damaged')
    assert 'has 2 lines for 3 images' in few


def test_what_is_not_ours_stays(tmp_path):
    """Folders of the names that a job uses, and files in its own folders."""
    theirs = [
        'journal/diary.txt',
        'unfinished/novel.txt',
        '.unfinished/secret.txt',
        'masks/carnival.png',
        'masks/a-0123456789abcdef.png',
        'masks/a/b.png',
        'notes.txt',
    ]
    for path in theirs:
        (tmp_path / path).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / path).write_text('mine')
    assert work(tmp_path, count=3)
    for options in ({}, {'replace': True}):
        run_on(tmp_path, sources(2), **options)
        assert check_folder(tmp_path) == []
    remove_results(tmp_path)
    assert sorted(content(tmp_path)) == sorted(theirs)


def test_a_file_that_is_not_ours_is_never_replaced(tmp_path):
    (tmp_path / 'masks').mkdir()
    theirs = tmp_path / 'masks/ü1.png'
    theirs.write_text('mine')
    with pytest.raises(ValueError, match=r'masks/ü1\.png is not ours, and results need its name'):
        work(tmp_path, count=3)
    assert theirs.read_text() == 'mine'
    theirs.unlink()
    assert work(tmp_path, count=3)
    theirs.write_text('changed')  # ours, and damaged
    assert len(check_folder(tmp_path)) == 1
    assert work(tmp_path, count=3)
    assert check_folder(tmp_path) == []


def test_files_are_named_after_their_images(tmp_path):
    long = 'ö' * 120
    images = [Source(name) for name in ('/x/b/c.jpg', '/x/b/d.png', '/x/b/d.jpg')]
    run_on(tmp_path, images)
    masks = [one.more['masks'] for one in read_results(tmp_path)[1]]
    assert masks == ['masks/c.png', 'masks/d.png.png', 'masks/d.jpg.png']
    (tmp_path / masks[0]).write_bytes(b'damaged')
    # Other images: the folder that all lie in is another one, and so are the names.
    images = [Source(f'/x/{name}') for name in ('b/c.jpg', 'c.jpg', f'{long}1.jpg', f'{long}2.jpg')]
    _, done_now = run_on(tmp_path, images)
    assert done_now == [image.name for image in images]
    assert check_folder(tmp_path) == []
    records = read_results(tmp_path)[1]
    masks = [one.more['masks'] for one in records]
    assert masks[:2] == ['masks/b/c.png', 'masks/c.png']
    assert len(set(masks)) == 4
    assert all(len(os.fsencode(mask)) < 250 for mask in masks)
    assert [(tmp_path / mask).read_bytes() for mask in masks] == [b'0', b'1', b'2', b'3']
    assert len(list(tmp_path.rglob('*.png'))) == 4


@pytest.mark.parametrize('replace', [False, True])
def test_a_kill_while_files_get_their_names(tmp_path, monkeypatch, replace):
    """Killed at each renaming in turn: what can be read is whole, and the next start ends it."""

    class Killed(BaseException):
        pass

    def finish(root):
        manifest = Manifest('masks', ('background', 'cat')) if replace else MANIFEST
        images = [Source(f'/x/{name}.jpg') for name in ('a', 'b', 'sub/a')]
        job = begin(root, manifest, images, replace=replace)
        for index, image in enumerate(images):
            if index not in job.done:
                job.add(index, ImageRecord(image.name), {'masks.png': b'new %d' % index})
        return job.finish()

    first = [Source(f'/x/sub/{name}.jpg') for name in ('a', 'c')]
    whole, kills = None, 0
    for step in range(40):
        root, left = tmp_path / str(step), [step]
        run_on(root, first)
        with monkeypatch.context() as patch:

            def counted(*args, real=os.replace, left=left):
                left[0] -= 1
                if left[0] < 0:
                    raise Killed
                return real(*args)

            patch.setattr(os, 'replace', counted)
            try:
                finish(root)
            except Killed:
                kills += 1
                try:
                    _, records = read_results(root)
                except ValueError:
                    records = []  # the labels' job is no longer that of the manifest
                for record in records:
                    assert check_folder(root) == []
                    content_now = (root / record.more['masks']).read_bytes()
                    assert content_now in (b'0', b'1', b'new 0', b'new 1', b'new 2')
        assert finish(root)
        assert check_folder(root) == []
        whole = whole or content(tmp_path / '0')
        assert content(root) == whole
    assert 5 < kills < 40


def test_labels_and_manifests_that_are_not_ours_are_refused(tmp_path):
    (tmp_path / 'labels.jsonl').write_text('mine')
    with pytest.raises(ValueError, match='holds other things than results of ours'):
        begin(tmp_path)
    (tmp_path / 'manifest.json').write_text('{"name": "web app"}')
    for options in ({}, {'replace': True}):
        with pytest.raises(ValueError, match='is no manifest of results'):
            begin(tmp_path, **options)
    with pytest.raises(ValueError, match='is no manifest of results'):
        remove_results(tmp_path)
    assert len(content(tmp_path)) == 2
    (tmp_path / 'other').mkdir()
    (tmp_path / 'other/a.txt').touch()
    with pytest.raises(ValueError, match='leaves it alone'):
        begin(tmp_path / 'other', replace=True)


def test_results_are_replaced_at_the_end(tmp_path):
    run_on(tmp_path, sources(4))
    before = content(tmp_path)
    other = Manifest('masks', ('background', 'cat'))
    for attempt in range(2):
        job = begin(tmp_path, other, replace=True)
        assert job.done == ({0, 1} if attempt else set())
        for index in range(2):
            job.add(index, ImageRecord(name(index), ('cat',)), {'masks.png': b'cat'})
        job.commit()
        assert read_results(tmp_path)[0].classes == ('background', 'dog')
        assert check_folder(tmp_path) == []
        assert before.items() <= content(tmp_path).items()
    for index in range(2, COUNT):
        job.add(index, ImageRecord(name(index), ('cat',)))
    assert job.finish()
    manifest, records = read_results(tmp_path)
    assert manifest.classes == ('background', 'cat')
    assert len(records) == COUNT
    assert check_folder(tmp_path) == []
    assert len(content(tmp_path)) == 5


def test_a_folder_that_is_removed_under_a_job_ends_it(tmp_path):
    root = tmp_path / 'out'
    job = begin(root)
    job.add(0, record(0), files(0))
    job.commit()
    shutil.rmtree(root)
    job.add(1, record(1), files(1))
    for call in (job.commit, job.finish):
        with pytest.raises(FileNotFoundError, match='was removed while a job was writing to it'):
            call()
    assert not root.exists()


def test_a_folder_that_another_job_takes_ends_it(tmp_path):
    job = begin(tmp_path)
    job.add(0, record(0))
    remove_results(tmp_path)
    begin(tmp_path, Manifest('tags', ('cat',)))
    with pytest.raises(ValueError, match=r'was taken over by another job'):
        job.commit()


def test_commits_by_itself(tmp_path):
    job = begin(tmp_path, commit_seconds=0)
    job.add(0, record(0))
    assert begin(tmp_path).done == {0}
    with pytest.raises(ValueError, match=r"image 1 is 'bilder/ü1\.jpg', but its record"):
        job.add(1, record(2))


@pytest.mark.parametrize(
    'odd', ['a\u2028b', 'a\u2029b', 'a\x85b', 'a\x0bb', 'a\x0cb', 'a\x1eb', 'a\nb', '\udce9']
)
def test_names_with_line_ends_that_are_none(tmp_path, odd):
    images = [Source(f'{odd}.jpg', [1, 1]), Source('z.jpg', [1, 1])]
    job = begin(tmp_path, Manifest('tags', (odd.replace('\udce9', 'é'), 'b')), images)
    job.add(0, ImageRecord(images[0].name, (odd,), (0.5,)))
    job.commit()
    job = begin(tmp_path, Manifest('tags', (odd.replace('\udce9', 'é'), 'b')), images)
    assert job.done == {0}
    job.add(1, ImageRecord('z.jpg', error=odd))
    assert job.finish()
    one, two = read_results(tmp_path)[1]
    assert (one.image, one.tags, two.error) == (images[0].name, (odd,), odd)


def test_a_kill_in_the_clean_up_leaves_what_can_be_taken_up(tmp_path, monkeypatch, undisturbed):
    """Killed at each removal in turn, of a finished job and of its removal."""

    class Killed(BaseException):
        pass

    for step in range(12):
        root = tmp_path / str(step)
        left = [step]

        def counted(real, left=left):
            def call(*args, **kwargs):
                left[0] -= 1
                if left[0] < 0:
                    raise Killed
                return real(*args, **kwargs)

            return call

        with monkeypatch.context() as patch:
            patch.setattr(os, 'rmdir', counted(os.rmdir))
            patch.setattr(os, 'unlink', counted(os.unlink))
            try:
                work(root, count=3)
                remove_results(root)
            except Killed:
                pass
        assert work(root, count=3)
        assert check_folder(root) == []
        assert work(root, count=3, replace=True)
        assert check_folder(root) == []


def test_reading(tmp_path):
    assert work(tmp_path)
    manifest, records = read_pseudo_labels(tmp_path, ['background', 'dog'])
    assert (manifest.kind, manifest.num_images) == ('masks', COUNT)
    assert [one.image for one in records] == [name(i) for i in range(COUNT)]


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
    with pytest.raises(FileNotFoundError, match='holds no results'):
        read_pseudo_labels(tmp_path)
    (tmp_path / 'manifest.json').write_text('{"kind": "tags"')
    with pytest.raises(ValueError, match='is no manifest of results'):
        read_pseudo_labels(tmp_path)


@pytest.mark.parametrize('before', [0, 2])
def test_a_power_failure_at_any_moment_loses_nothing_that_was_safe(tmp_path, monkeypatch, before):
    """Whatever was not flushed is forgotten; what was committed stays, and finished is finished.

    With images before, the job takes up finished results and replaces their labels.
    """
    root, commits = tmp_path / 'disk', {}
    root.mkdir()
    images = sources(4)
    with monkeypatch.context() as patch:
        disk = Forgetful(root, patch)
        if before:
            job = begin(root / 'out', images=images[:before], commit_seconds=1e9)
            for index in range(before):
                job.add(index, record(index), files(index))
            assert job.finish()
            commits[len(disk.failures)] = set(range(before))
        job = begin(root / 'out', images=images, commit_seconds=1e9)
        for index in range(before, 4):
            job.add(index, record(index), files(index))
            job.commit()
            commits[len(disk.failures)] = set(range(index + 1))
        assert job.finish()
        finished = len(disk.failures)
    whole = content(root / 'out')
    for number, failure in enumerate(disk.failures, start=1):
        safe = max((done for at, done in commits.items() if at <= number), key=len, default=set())
        for kind, left in enumerate(failure):
            again = restore(left, tmp_path / f'{number}-{kind}') / 'out'
            assert begin(again, images=images).done >= safe
            if (again / 'labels.jsonl').exists() and not before:
                assert check_folder(again) == []
            if number == finished:
                assert whole.items() <= content(again).items()


@pytest.mark.parametrize('state', ['begun', 'committed', 'finished', 'half removed'])
def test_nothing_is_left_of_results_that_are_removed(tmp_path, state):
    root = tmp_path / 'out'
    job = begin(root, images=sources(2))
    assert not is_half_removed(root)
    if state != 'begun':
        for index in range(2):
            job.add(index, record(index), files(index))
        job.commit()
    if state in ('finished', 'half removed'):
        assert job.finish()
    if state == 'half removed':
        (root / 'labels.jsonl').unlink()
    assert is_half_removed(root) == (state == 'half removed')
    remove_results(root)
    if state == 'half removed':  # whose lines are gone: nothing says which files are ours
        assert not (root / 'manifest.json').exists()
    else:
        assert not root.exists()
    assert not is_half_removed(root)


def test_damaged_lines_and_missing_files_are_listed(tmp_path):
    assert work(tmp_path, count=3)
    assert check_folder(tmp_path) == []
    path = tmp_path / 'labels.jsonl'
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1].replace(b'dog', b'cat') + lines[2])
    (tmp_path / 'masks/ü0.png').unlink()
    (tmp_path / 'masks/ü2.png').write_bytes(b'other')
    assert check_folder(tmp_path) == [
        f'{tmp_path / "masks/ü0.png"}, of {name(0)}, is missing',
        f'{path}, line 2 is damaged',
        f'{tmp_path / "masks/ü2.png"}, of {name(2)}, is damaged',
    ]
    path.write_bytes(lines[0])
    assert check_folder(tmp_path)[-1] == f'{path} has 1 lines for 3 images'


@pytest.mark.parametrize(('count', 'said'), [(1, '0'), (3, '0, 1, 2'), (4, '0, 1, 2, ...')])
def test_a_few_of_many_names(count, said):
    assert _few(set('0123'[:count])) == said


@pytest.mark.parametrize(('length', 'kept'), [(199, 199), (200, 200), (201, 200)])
def test_names_are_cut_to_what_every_file_system_holds(length, kept):
    assert _cut('a' * length) == 'a' * kept
    assert _cut('ü' * length) == 'ü' * min(length, 100)
