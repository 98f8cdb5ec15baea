"""All that is written is written in one way: whole, and safe before its sources are removed."""

import ast
import json
import os
import shutil
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mmtagclip import cli
from mmtagclip.apis import SegInferencer
from mmtagclip.apis.embedding import embed_images
from mmtagclip.apis.folder_run import write_contact_sheets
from mmtagclip.apis.inputs import list_images
from mmtagclip.apis.results import SegResult, TagResult
from mmtagclip.datasets.tag_file import TagRecord, write_tag_file
from mmtagclip.files import write_image
from mmtagclip.jobs.runner import Job, check_folder, remove_results
from tests.forgetful import Forgetful, restore

ROOT = Path(__file__).parents[1]
# Files that write for the duration of a process, or for developers only.
OWN_WAY = {
    'mmtagclip/files.py': 'it is the one way',
    'mmtagclip/engine/tag_writer.py': 'its part files, which it merges in the one way',
    'tools/analysis_tools/measuring.py': 'images to measure with, and /proc',
}
CLASSES = ('bell', 'dog')


class Tags:
    """Stands for an inferencer; an image's score is the mean of its pixels."""

    model = pipeline = file_max_side = None
    name_options = ('classes', 'background')

    def names_for(self, classes, background):
        return None

    def label_names(self, names):
        return CLASSES

    def stream(self, images, batch_size, **options):
        for image in images:
            try:
                pixels = image.read()
            except ValueError as error:
                yield self.result(image.name, None, str(error))
            else:
                yield self.result(image.name, pixels, None)

    def result(self, name, pixels, error):
        scores = np.full(2, 0 if pixels is None else pixels.mean() / 255, np.float32)
        return TagResult(name, (2, 3), CLASSES, scores, np.arange(0 if error else 2), error=error)


class Masks(Tags, SegInferencer):
    """The same with masks."""

    def __init__(self):
        pass

    def result(self, name, pixels, error):
        mask = np.zeros((0, 0) if error else (2, 3), np.uint8)
        if not error:
            mask[:] = pixels.mean() > 99
        colours = ((0, 0, 0), (9, 9, 9))
        size = (0, 0) if error else (2, 3)
        return SegResult(
            name, size, CLASSES, colours, mask, {'dog': 0.5} if not error else {}, error=error
        )


class Embeddings:
    """Stands for an embedder."""

    name, dimension, max_side = 'model', 4, None
    encoder = SimpleNamespace(
        identity={'name': 'n', 'architecture': 'a', 'weights': 'w'}, patch_dim=4
    )

    def warn_of_demo(self):
        pass

    def _resized(self, image, name):
        return image

    def _images(self, images):
        return np.eye(4, dtype=np.float32)[[int(pixels.mean()) % 4 for pixels in images]]

    def _patches(self, image, name):
        return self._images([image])[None]


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / 'images'
    for number, name in enumerate(('a.png', 'b.png', 'c/a.png')):
        write_image(folder / name, np.full((2, 3, 3), 60 * number, np.uint8))
    return folder


def command(inferencer, images, out, overwrite=False):
    """What ``mmtagclip tag``, ``segment`` or ``embed`` does with a model that is loaded."""
    if isinstance(inferencer, Embeddings):
        options = {'patches': True, 'replace': overwrite, 'show_progress': False}
        return embed_images(inferencer, str(images), out, **options)
    args = Namespace(
        command='segment' if isinstance(inferencer, Masks) else 'tag',
        images=[str(images)], out=str(out), overwrite=overwrite, vis=None, sheets=None,
        quiet=False, batch_size=1,
    )  # fmt: skip
    cli.images.check_out(args)
    return cli.images.write_results(inferencer, cli.images.input_images(args), args, {})


RUNS = [
    (kind, out)
    for kind, outs in (
        (Tags, ('x.jsonl', 'x.csv', 'x.json')),
        (Masks, ('x.jsonl', 'x.csv', 'x.json', 'x')),
    )
    for out in outs
]


def content(folder):
    """Content of each file by its path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob('*')
        if path.is_file()
    }


def tag_file(folder, images):
    write_tag_file(folder / 'tags.txt', [TagRecord('a.jpg', (1,)), TagRecord('b.jpg', ())])


def sheets(folder, images):
    records = [{'image': str(images / 'a.png'), 'tags': ['bell'], 'scores': [None]}]
    write_contact_sheets(records, folder / 'pages')


def run_of(kind, out):
    def write(folder, images):
        command(kind(), images, folder / out)

    write.__name__ = f'{kind.__name__}-{out}'
    return write


WRITERS = [
    *(run_of(*one) for one in (*RUNS, (Embeddings, 'x.safetensors'))),
    tag_file,
    sheets,
]


@pytest.mark.parametrize('write', WRITERS, ids=lambda write: write.__name__)
def test_a_power_failure_after_the_first_removal_or_the_end_loses_nothing(
    tmp_path, images, monkeypatch, write
):
    """Whatever was not flushed is forgotten, after each call in turn."""
    disk_root = tmp_path / 'disk'
    disk_root.mkdir()
    monkeypatch.setattr(shutil, 'rmtree', None)
    with monkeypatch.context() as patch:
        disk = Forgetful(disk_root, patch)
        write(disk_root, images)
    written = content(disk_root)
    assert written
    removals = [number for number, call in enumerate(disk.calls) if call[0] in ('unlink', 'rmdir')]
    first = min(removals, default=len(disk.calls) - 1)
    for number, failure in enumerate(disk.failures[first:], start=first):
        for left in failure:
            source = [text for name, text in left.items() if name.endswith('finished/labels.jsonl')]
            assert written.items() <= left.items() or (source and source[0].count(b'\n') == 3)
            is_last = number == len(disk.failures) - 1
            assert not is_last or written.items() <= left.items()


def test_every_file_is_written_in_one_way():
    """No writer beside mmtagclip/files.py, so that what is tested of it holds for all."""
    seen = set()
    for path in (
        *ROOT.glob('mmtagclip/**/*.py'),
        *ROOT.glob('tools/*_*/*.py'),
        *ROOT.glob('tools/*.py'),
    ):
        name = path.relative_to(ROOT).as_posix()
        calls = {
            text
            for node in ast.walk(ast.parse(path.read_text(encoding='utf-8')))
            if isinstance(node, ast.Call) and (text := writes(node))
        }
        if name in OWN_WAY:
            assert calls, f'{name} is excused without a reason'
            seen.add(name)
        else:
            assert not calls, f'{name} calls {calls}: use mmtagclip.files'
    assert seen == set(OWN_WAY)


def writes(call):
    """The text of a call that writes or removes files in another way; None of any other call."""
    text = ast.unparse(call.func)
    last = text.rpartition('.')[2]
    into_memory = any(ast.unparse(one) in BUFFERS for one in call.args)
    modes = [ast.unparse(one) for one in (*call.args, *(key.value for key in call.keywords))]
    if (
        last in ('write_text', 'write_bytes', 'save_checkpoint', 'imwrite', 'tofile', 'rmtree')
        or text in ('os.rename', 'os.replace', 'json.dump', 'pickle.dump', 'shutil.move')
        or (last in ('save', 'savefig', 'savez_compressed') and not into_memory)
        or (
            last in ('open', 'fdopen')
            and any(one.strip('\'"b+') in ('w', 'x', 'a') for one in modes)
        )
    ):
        return text
    return None


# Arguments of a save that writes to memory or returns bytes, or is a method of ours.
BUFFERS = {'buffer', 'content', "{'feature': values}", "{'captions': text}", 'tensors', 'bank'}


def test_the_check_of_writers_sees_them():
    for code in (
        "open(p, 'w')", "p.open('xb')", 'p.write_text(t)', 'torch.save(x, path)',
        'image.save(path)', 'json.dump(x, f)', 'shutil.rmtree(p)', "open(p, mode='a')",
        'os.replace(a, b)',
    ):  # fmt: skip
        assert writes(ast.parse(code).body[0].value), code
    for code in (
        'open(p)',
        "p.open('rb')",
        "image.save(buffer, format='PNG')",
        "s.replace('a', 'b')",
    ):
        assert not writes(ast.parse(code).body[0].value), code


class Killed(BaseException):
    """Stands for SIGKILL."""


CALLS = ('open', 'fsync', 'replace', 'unlink', 'mkdir', 'rmdir')


def killed_at(monkeypatch, step):
    """Let every call that changes the disk fail from the given one on: nothing is cleaned up."""
    left = [step]

    def counted(name, real):
        def call(*args, **kwargs):
            if name != 'open' or args[1] & os.O_CREAT:
                left[0] -= 1
                if left[0] < 0:
                    raise Killed
            return real(*args, **kwargs)

        return call

    for name in CALLS:
        monkeypatch.setattr(os, name, counted(name, getattr(os, name)))
    return left


@pytest.mark.parametrize('overwrite', [False, True])
@pytest.mark.parametrize(
    ('kind', 'out'),
    [(Tags, 'x.jsonl'), (Masks, 'x.json'), (Masks, 'x'), (Embeddings, 'x.safetensors')],
)
def test_killed_at_any_call_a_new_start_completes(
    tmp_path, images, monkeypatch, kind, out, overwrite
):
    """A new start of the same command ends with the same output, and nothing beside it."""
    (tmp_path / 'whole').mkdir()
    command(kind(), images, tmp_path / 'whole' / out)
    whole = content(tmp_path / 'whole')
    for step in range(400):
        folder = tmp_path / str(step)
        folder.mkdir()
        with monkeypatch.context() as patch:
            left = killed_at(patch, step)
            try:
                command(kind(), images, folder / out)
                break
            except Killed:
                pass
        output = (folder / out / 'labels.jsonl') if out == 'x' else folder / out
        was_whole = output.exists()
        try:
            command(kind(), images, folder / out, overwrite=overwrite)
        except FileExistsError:  # the output was whole, and nothing is left to clean up
            assert was_whole
            assert out != 'x'  # a folder goes on
            assert not overwrite
            beside = [one for one in folder.rglob('*') if one.name.endswith('unfinished')]
            assert not any(any(one.iterdir()) for one in beside)
        assert content(folder) == whole
        if out == 'x':
            assert check_folder(folder / out) == []
    assert left[0] >= 0
    assert step > 20


@pytest.mark.parametrize(('kind', 'out'), RUNS)
def test_the_same_command_twice_at_once(tmp_path, images, monkeypatch, kind, out):
    """The second runs wholly at each image of the first, which ends right or with a sentence."""
    command(kind(), images, tmp_path / 'whole' / out)
    whole = content(tmp_path / 'whole')
    for moment in range(3):
        folder = tmp_path / str(moment)

        class First(kind):
            def result(self, name, *args, number=[0], moment=moment, folder=folder):  # noqa: B006
                if number[0] == moment:
                    command(kind(), images, folder / out)
                number[0] += 1
                return super().result(name, *args)

        First.__name__, First.__qualname__ = kind.__name__, kind.__qualname__
        said = ''
        try:
            command(First(), images, folder / out)
        except FileNotFoundError as error:
            said = str(error)
        assert not said or 'start' in said
        assert content(folder) == whole


@pytest.mark.parametrize(('kind', 'out'), RUNS)
def test_an_output_that_is_removed_under_a_run_ends_it(tmp_path, images, kind, out):
    root = tmp_path / (out if out == 'x' else f'{out}.unfinished')

    class Removed(kind):
        def result(self, name, *args):
            if name.endswith('b.png'):
                shutil.rmtree(root)
            return super().result(name, *args)

    with pytest.raises(FileNotFoundError, match='was removed while a job was writing to it'):
        command(Removed(), images, tmp_path / out)
    assert not root.exists()
    command(kind(), images, tmp_path / out)
    assert (tmp_path / out).exists()


def test_results_that_vanish_under_a_run_are_said(tmp_path, images, monkeypatch):
    monkeypatch.setattr(Job, 'finish', lambda job: False)
    with pytest.raises(FileNotFoundError, match='were removed while a run was writing them'):
        command(Tags(), images, tmp_path / 'x.jsonl')


@pytest.mark.parametrize(('kind', 'out'), RUNS)
def test_a_run_that_fails_replaces_nothing(tmp_path, images, kind, out):
    """With ``--overwrite``, whether its names are refused or its last image."""
    command(kind(), images, tmp_path / out)
    before = content(tmp_path)

    class Fails(kind):
        refused = 'names'

        def names_for(self, classes, background):
            if self.refused == 'names':
                raise ValueError('names')
            return super().names_for(classes, background)

        def result(self, name, *args):
            if self.refused in name:
                raise ValueError('image')
            return super().result(name, *args)

    for refused in ('names', 'c/a.png'):
        Fails.refused = refused
        with pytest.raises(ValueError, match=r'names|image'):
            command(Fails(), images, tmp_path / out, overwrite=True)
        assert before.items() <= content(tmp_path).items()


@pytest.mark.parametrize(('kind', 'out'), RUNS)
def test_names_with_line_ends_that_are_none(tmp_path, kind, out):
    """Through a run that is interrupted, resumed and exported."""
    folder = tmp_path / 'images'
    odd = ['a\u2028b', 'a\u2029b', 'a\x85b', 'a\x0bb']
    for name in odd:
        write_image(folder / f'{name}.png', np.zeros((2, 3, 3), np.uint8))
    seen: list[str] = []

    class Interrupted(kind):
        def result(self, name, *args):
            seen.append(name)
            if len(seen) == 3:
                raise KeyboardInterrupt
            return super().result(name, *args)

    with pytest.raises(KeyboardInterrupt):
        command(Interrupted(), folder, tmp_path / out)
    records = command(Interrupted(), folder, tmp_path / out)
    assert len(seen) == 5
    names = [image.name for image in list_images(str(folder))]
    assert [record['image'] for record in records] == names
    assert sorted(Path(name).stem for name in names) == sorted(odd)
    if out == 'x':
        assert check_folder(tmp_path / out) == []
        remove_results(tmp_path / out)
    elif out == 'x.jsonl':
        lines = (tmp_path / out).read_text(encoding='utf-8').split('\n')[:-1]
        assert [json.loads(line)['image'] for line in lines] == names
    elif out == 'x.json':
        stored = json.loads((tmp_path / out).read_bytes())['images']
        assert [one['file_name'] for one in stored] == [Path(name).name for name in names]
    else:
        text = (tmp_path / out).read_text(encoding='utf-8')
        assert all(name in text for name in names)


def test_restoring_what_a_failure_left(tmp_path):
    assert content(restore({'a/b': b'c'}, tmp_path)) == {'a/b': b'c'}
