"""The runner of long jobs: what is done, what is left, and results that survive whatever happens.

A job writes one record per image, and files that belong to it, into a folder:

- ``manifest.json``: what the records are and what made them, see :class:`Manifest`. It is also
  the mark of our folders: nothing is replaced or removed in a folder without one.
- ``labels.jsonl``: one line per image in the order of the data set. It appears whole, and only
  when no image is missing.
- ``classes.txt``: the class names in the order of the labels, one per line.
- ``KIND/STEM.ENDING``, such as ``masks/000040.png``: what belongs to an image. STEM is the image's
  path below the folder that all images lie in, see :func:`~mmtagclip.images.output_stems`.
- ``.unfinished/``: while the job runs, a journal per process and start, whose lines are those
  of ``labels.jsonl`` without the paths of files; and the files. They get their names only when
  ``labels.jsonl`` is there, so old results stay whole until new ones replace them.

Each line has, besides the record, the digests of its ``files``, the ``source`` (size and time of
the image file) and a ``digest`` over itself and the job. A line or file whose digest is wrong, a
line of another job and a line of an image that has changed count as not there: the image is done
again.
"""

import contextlib
import hashlib
import json
import os
import re
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ..files import (
    append_lines,
    make_folder,
    move,
    place_whole,
    sync_folder,
    whole_lines,
    write_whole,
)
from ..images import output_stems
from ..records import ImageRecord, encode_line, parse_json
from ..version import __version__
from .description import Source, differences, digest

FORMAT = 'mmtagclip results 4'
WORK = '.unfinished'
CLASSES = 'classes.txt'
# The labels of results that are being removed: what names the files that are left.
REMOVED = '.removed.jsonl'
# In bytes: names of files and folders have 255 at most.
LONGEST_STEM = 200
OUR_WORK = re.compile(
    r'[0-9a-f]{8}-[0-9a-f]{32}\.jsonl|\.[0-9a-f]{32}\.part|[0-9a-f]{16}-\w+-[0-9a-f]{16}\.\w+'
)
LINE = re.compile(rb'(\{.*), "digest": "([0-9a-f]{16})"\}\n', re.DOTALL)
# How often another process may remove a folder between making it and writing into it.
TRIES = 20


@dataclass(frozen=True)
class Manifest:
    """What a folder of results holds and what made it.

    Attributes:
        kind: What the records are: ``'tags'``, ``'masks'``, ...
        classes: Class names in the order of the labels; of masks with the background, if there
            is one, as the first.
        job: What decides the results, see :func:`~mmtagclip.jobs.description.flatten`. Jobs that
            differ in kind, classes or this never share results.
        num_images: Of the whole job.
        images: Digest of their names, sizes and times.
        version: Of this package.
    """

    kind: str
    classes: tuple[str, ...]
    job: Mapping[str, Any] = field(default_factory=dict)
    num_images: int = 0
    images: str = ''
    version: str = __version__

    def __post_init__(self) -> None:
        object.__setattr__(self, 'classes', tuple(self.classes))
        # In one order, so that every process writes the same bytes.
        object.__setattr__(self, 'job', dict(sorted(self.job.items())))

    @cached_property
    def description(self) -> dict[str, Any]:
        """What decides the results: the job with kind, classes and version."""
        whole = {'kind': self.kind, 'classes': list(self.classes), 'version': self.version}
        return {**whole, **self.job}

    @cached_property
    def key(self) -> str:
        """Digest of :attr:`description`."""
        return digest(self.description)

    def encode(self) -> bytes:
        """The file's content: readable, one value of the job per line, with a digest."""
        values = {'format': FORMAT, **asdict(self)}
        values['digest'] = digest(values)
        lines = [f'  {json.dumps(k)}: {_one_per_line(v)}' for k, v in values.items()]
        return encode_line('{\n' + ',\n'.join(lines) + '\n}')

    @classmethod
    def load(cls, root: str | Path) -> 'Manifest':
        """Read a folder's manifest.

        Raises:
            FileNotFoundError: There is none.
            ValueError: It is damaged, or no manifest of ours.
        """
        path = Path(root) / 'manifest.json'
        if not path.is_file():
            raise FileNotFoundError(f'{root} holds no results: there is no {path.name}')
        return cls.decode(path.read_bytes(), path)

    @classmethod
    def decode(cls, content: bytes, path: str | Path) -> 'Manifest':
        """The manifest that :meth:`encode` made.

        Args:
            content: The file's content.
            path: Its path, for messages.

        Raises:
            ValueError: It is damaged, or no manifest of ours.
        """
        try:
            values = parse_json(content)
            if not isinstance(values, dict) or values.pop('format', None) != FORMAT:
                raise ValueError(f'it has no "format": "{FORMAT}"')
            if values.pop('digest', None) != digest({'format': FORMAT, **values}):
                raise ValueError('its digest is wrong, so it was changed or damaged')
            return cls(**values)
        except (ValueError, TypeError) as error:
            raise ValueError(f'{path} is no manifest of results: {error}') from None

    def check_same(self, begun: 'Manifest', place: object) -> None:
        """Refuse results that another job began.

        Args:
            begun: The manifest that is there.
            place: Where, for the message.

        Raises:
            ValueError: It is of another job; the message names what differs.
        """
        changed = differences(begun.description, self.description)
        if changed:
            more = f' (and {len(changed) - 3} more differences)' if len(changed) > 3 else ''
            raise ValueError(
                f'{place} was begun by another job: {"; ".join(changed[:3])}{more}. Write to '
                'another folder, or remove this one'
            )


class Job:
    """A long job that may die at any moment, and resumes when it is started again.

    Any number of processes may work on one folder, also by mistake: each has a journal of its
    own, files appear whole under their final names, and the same image always gets the same
    bytes.

    Images are known by their names. One that was added, or whose file has changed, is left to
    do; results of one that was removed are dropped. Images that could not be read are tried
    again at each start. An image that is listed twice has one result.

    Args:
        root: The folder.
        manifest: What is written, without the images.
        images: All images, in the order of the result.
        fixed_images: Whether a folder that was begun with other images is refused, as it must be
            where several processes do a share each and know nothing of each other.
        replace: Whether results that are there are replaced when the job ends, whatever job
            made them. Otherwise those of another job are refused, and those of this one are
            taken up.
        commit_seconds: How often results are brought to the disk: as much work is lost at most.

    Attributes:
        done: Indices of the images that have a result.
        notes: What there is to say about a resumed job, a sentence each.

    Raises:
        ValueError: The folder was begun by another job (the message names what differs), with
            other images (``fixed_images``), is finished and has none of these images, or holds a
            ``labels.jsonl`` or ``manifest.json`` that is not ours.
    """

    def __init__(
        self,
        root: str | Path,
        manifest: Manifest,
        images: Sequence[Source],
        *,
        fixed_images: bool = False,
        replace: bool = False,
        commit_seconds: float = 2.0,
    ) -> None:
        self.root = Path(root)
        self.images = list(images)
        self.manifest = _with_images(manifest, self.images)
        self._encoded = self.manifest.encode()
        self.fixed_images = fixed_images
        self.replace = replace
        self.commit_seconds = commit_seconds
        self.notes: list[str] = []
        self.labels = self.root / 'labels.jsonl'
        self.work = self.root / WORK
        self._stamps = {name: json.loads(json.dumps(stamp)) for name, stamp in self.images}
        self._pending: dict[int, tuple[ImageRecord, Mapping[str, bytes]]] = {}
        self._new_journal()
        self._committed = time.monotonic()
        self._begin()
        lines = self._lines(say=True)
        done = {name for name, line in lines.items() if not line[0]}
        self.done = {index for index, image in enumerate(self.images) if image.name in done}

    def left(self, batches: Sequence[Sequence[int]]) -> list[list[int]]:
        """Those of the batches that are not wholly done: images are computed together as ever."""
        return [list(batch) for batch in batches if not self.done.issuperset(batch)]

    def results(self) -> dict[str, ImageRecord]:
        """Records of the images that have a result, by name, without their files."""
        found = {}
        for name, (failed, text) in self._lines().items():
            if not failed:
                content = json.loads(text)
                found[name] = ImageRecord.from_dict(
                    {key: content[key] for key in content.keys() - {'source', 'files'}}
                )
        return found

    def add(
        self, index: int, record: ImageRecord, files: Mapping[str, bytes] | None = None
    ) -> None:
        """Hand over the result of one image; it is safe after :meth:`commit`.

        Commits when it is time to.

        Args:
            index: Of the image.
            record: Its record.
            files: Further content by kind and ending, such as ``{'masks.png': ...}``; its path,
                relative to the folder, goes into the record under the kind.
        """
        self._pending[index] = record, files or {}
        if time.monotonic() - self._committed > self.commit_seconds:
            self.commit()

    def commit(self) -> None:
        """Bring all that was added to the disk: files first, then the journal.

        Raises:
            FileNotFoundError: The folder was removed meanwhile.
            OSError: The disk is full, or the like; what was committed before stays.
            ValueError: Another job took the folder over meanwhile.
        """
        self._committed = time.monotonic()
        if not self._pending:
            return
        self._check_ours()
        lines = []
        for index, (record, files) in self._pending.items():
            digests = {name: _digest(content) for name, content in files.items()}
            for name, content in files.items():
                self._check_free(self._place(record.image, name), digests[name])
                self._write(self.work / _hidden(record.image, name, digests[name]), content)
            lines.append(self._line(index, record, digests))
        if any(files for _, files in self._pending.values()):
            self._despite_others(sync_folder, self.work)
        self._append(b''.join(lines))
        self.done.update(self._pending)
        self._pending.clear()

    def finish(self) -> bool:
        """Commit, and if no image is missing, put the whole together and clean up.

        Returns:
            Whether the results are complete.
        """
        self.commit()
        self._check_ours()
        found = self._lines()
        if not found.keys() >= self._stamps.keys():
            return False
        records = {name: json.loads(text) for name, (_, text) in found.items()}
        places = {
            (name, file): self._place(name, file)
            for name, record in records.items()
            for file in record.get('files', ())
        }
        lines = [
            self._sealed({**records[image.name], **_paths(places, records[image.name], image.name)})
            for image in self.images
        ]
        for (name, file), place in places.items():
            self._check_free(place, records[name]['files'][file])
        self._write_labels(lines, places)
        self._publish(records, places)
        # Only now, when the whole is safe.
        _remove_files(self.root, {place.as_posix() for place in places.values()})
        _remove_work(self.root)
        return True

    def _write_labels(self, lines: list[bytes], places: Mapping[tuple[str, str], Path]) -> None:
        """Write ``labels.jsonl``, with what goes with it."""
        if not self._is_content(lines):
            if self.labels.is_file():
                self._hide_renamed(places)
                # As a journal, old labels name the files that are to be removed.
                key = Manifest.load(self.root).key[:8]
                journal = self.work / f'{key}-{uuid.uuid4().hex}.jsonl'
                self._write(journal, self.labels.read_bytes())
                self._despite_others(sync_folder, self.work)
            if (self.root / 'manifest.json').read_bytes() != self._encoded:
                self._write(self.root / 'manifest.json', self._encoded)
                sync_folder(self.root)
            self._write(self.labels, *lines)
            sync_folder(self.root)
        names = b''.join(map(encode_line, self.manifest.classes))
        path = self.root / CLASSES
        if not path.is_file() or path.read_bytes() != names:
            self._write(path, names)
            sync_folder(self.root)

    def _hide_renamed(self, places: Mapping[tuple[str, str], Path]) -> None:
        """Take away the names of files whose names change, as when other images were added."""
        folders = set()
        for line in whole_lines(self.labels):
            record = read_line(line, self.manifest.key) or {}
            for file, path in file_paths(record).items():
                name, of_content = record['image'], record['files'][file]
                place, named = places.get((name, file)), self.root / path
                hidden = self.work / _hidden(name, file, of_content)
                # A file that is damaged was done again.
                if (
                    place not in (None, Path(path))
                    and not hidden.exists()
                    and _is_whole(named, of_content)
                ):
                    with contextlib.suppress(FileNotFoundError):
                        move(named, hidden)
                        folders.add(named.parent)
        if folders:
            for folder in (self.work, *folders):
                sync_folder(folder)

    def _publish(self, records: Mapping[str, Any], places: Mapping[tuple[str, str], Path]) -> None:
        """Give the files their names."""
        folders = set()
        for (name, file), place in places.items():
            hidden = self.work / _hidden(name, file, records[name]['files'][file])
            if hidden.is_file():
                with contextlib.suppress(FileNotFoundError):  # another process was quicker
                    move(hidden, self.root / place)
                folders.add((self.root / place).parent)
        for folder in folders:
            sync_folder(folder)

    def _is_content(self, lines: Sequence[bytes]) -> bool:
        """Whether the folder holds these lines already."""
        if not self.labels.is_file():
            return False
        return Manifest.load(self.root) == self.manifest and self.labels.read_bytes() == b''.join(
            lines
        )

    def _begin(self) -> None:
        """Take the folder, or refuse it."""
        path = self.root / 'manifest.json'
        if not path.is_file():
            there = [one.name for one in self.root.iterdir()] if self.root.exists() else []
            if {self.labels.name, CLASSES} & set(there) or (self.replace and set(there) - {WORK}):
                raise ValueError(
                    f'{self.root} holds other things than results of ours, and replacing leaves '
                    'it alone: write to another folder'
                )
            make_folder(self.work)
            write_whole(path, self._encoded, scratch=self.work)
        begun = Manifest.load(self.root)
        if (self.root / REMOVED).exists():  # of a removal that was interrupted
            _remove_files(self.root, kept=())
            (self.root / REMOVED).unlink(missing_ok=True)
            sync_folder(self.root)
        if self.replace:
            return
        self.manifest.check_same(begun, self.root)
        if begun.images == self.manifest.images:
            return
        if self.fixed_images:
            raise ValueError(
                f'{self.root} was begun with other images: {begun.num_images} there, '
                f'{self.manifest.num_images} here, or other names, sizes or times of their files. '
                'Every shard needs the same'
            )
        if self.labels.is_file():
            found = (read_line(line, begun.key) for line in whole_lines(self.labels))
            names = {one['image'] for one in found if one is not None and 'error' not in one}
            if names and names.isdisjoint(self._stamps):
                raise ValueError(
                    f'{self.root} has the results of other images, which would be lost: write to '
                    'another folder, or replace them (--overwrite)'
                )
        if begun.num_images != self.manifest.num_images:
            self.notes.append(
                f'the job had {begun.num_images} images before, now it has '
                f'{self.manifest.num_images}'
            )
        make_folder(self.work)
        write_whole(path, self._encoded, scratch=self.work)

    def _check_ours(self) -> None:
        try:
            manifest = (self.root / 'manifest.json').read_bytes()
        except OSError:
            raise FileNotFoundError(
                f'{self.root} was removed while a job was writing to it; start the job again'
            ) from None
        if not self.replace and manifest != self._encoded:
            raise ValueError(
                f'{self.root} was taken over by another job, or with other images, while this one '
                'was writing to it'
            )

    def _lines(self, say: bool = False) -> dict[str, tuple[bool, str]]:
        """For each image that has a valid result: whether it is an error, and its record as JSON.

        Where there are several, a result counts more than an error; the rest is arbitrary, but
        the same in every process.
        """
        best: dict[str, tuple[bool, str]] = {}
        removed, changed, damaged = set(), set(), 0
        for line in self._stored():
            record = read_line(line, self.manifest.key)
            if record is None or not all(
                find_file(self.root, record, file, self._place(record['image'], file))
                for file in record.get('files', ())
            ):
                damaged += 1
                continue
            name = record['image']
            if name not in self._stamps:
                removed.add(name)
            elif record['source'] != self._stamps[name]:
                changed.add(name)
            else:
                for file in file_paths(record):
                    del record[_kind(file)]
                this = 'error' in record, json.dumps(record, ensure_ascii=False)
                best[name] = min(best.get(name, this), this)
        if say:
            for names, text in (
                (removed, 'dropped, as they are no longer among the images'),
                (changed - best.keys(), 'done again, as their files have changed'),
            ):
                if names:
                    self.notes.append(f'{len(names)} results are {text}: {_few(names)}')
            if damaged:
                self.notes.append(f'{damaged} stored results are damaged, and are done again')
        return best

    def _stored(self) -> Iterator[bytes]:
        """All lines of this job: of this and earlier starts and of other processes."""
        try:
            for journal in sorted(self.work.glob(f'{self.manifest.key[:8]}-*.jsonl')):
                yield from whole_lines(journal)
        except FileNotFoundError:  # another process finished and cleaned up meanwhile
            pass
        if self.labels.is_file() and not self.replace:
            yield from whole_lines(self.labels)

    def _place(self, image: str, file: str) -> Path:
        """Where a file of an image belongs, relative to the folder."""
        kind, suffix = file.split('.', 1)
        stem = self._stems.get(image)
        return Path(kind, f'{stem}.{suffix}') if stem is not None else Path(kind)

    @cached_property
    def _stems(self) -> dict[str, str]:
        """Names of the files of each image, short enough for every file system."""
        stems = dict(zip(self._stamps, output_stems(list(self._stamps)), strict=True))
        short = {name: '/'.join(map(_cut, stem.split('/'))) for name, stem in stems.items()}
        count = Counter(stem.casefold() for stem in short.values())
        return {
            name: stem
            if count[stem.casefold()] == 1
            else f'{stem}-{_digest(name.encode(errors="backslashreplace"))}'
            for name, stem in short.items()
        }

    @cached_property
    def _named(self) -> set[str]:
        """Paths of files that stored lines name, so that they are ours."""
        return {path for path, _ in _listed(self.root)}

    def _check_free(self, place: Path, of_content: str) -> None:
        """Refuse to replace a file that is not ours."""
        path = self.root / place
        if place.as_posix() in self._named or not path.exists() or _is_whole(path, of_content):
            return
        raise ValueError(
            f'{path} is not ours, and results need its name: move it away, and start the job again'
        )

    def _line(self, index: int, record: ImageRecord, digests: Mapping[str, str]) -> bytes:
        image = self.images[index]
        if record.image != image.name:
            raise ValueError(f'image {index} is {image.name!r}, but its record {record.image!r}')
        more = {'files': dict(digests)} if digests else {}
        more = {**record.more, **more, 'source': image.stamp}
        return self._sealed(replace(record, more=more).to_dict())

    def _sealed(self, content: Mapping[str, Any]) -> bytes:
        """A line with its digest."""
        text = encode_line(json.dumps(content, ensure_ascii=False))[:-2]  # without brace and end
        return b'%s, "digest": "%s"}\n' % (text, _line_digest(text, self.manifest.key))

    def _new_journal(self) -> None:
        self._journal = self.work / f'{self.manifest.key[:8]}-{uuid.uuid4().hex}.jsonl'

    def _append(self, lines: bytes) -> None:
        """Add lines to this start's journal."""
        try:
            self._despite_others(append_lines, self._journal, lines)
        except OSError:
            self._new_journal()  # nothing may follow a line that was cut off
            raise

    def _write(self, path: Path, *content: bytes) -> None:
        self._despite_others(place_whole, path, *content, scratch=self.work)

    def _despite_others(self, write: Any, *args: Any, **kwargs: Any) -> None:
        """Write, where another process may finish and clean up at any moment."""
        for attempt in range(TRIES):
            try:
                make_folder(self.work)
                write(*args, **kwargs)
                return
            except (FileNotFoundError, FileExistsError):
                self._check_ours()
                if attempt == TRIES - 1:
                    raise


def read_results(root: str | Path) -> tuple[Manifest, list[ImageRecord]]:
    """Read a finished folder; the files beside the records are not looked at.

    Returns:
        The manifest, and a record per image in the order of the data set.

    Raises:
        FileNotFoundError: The folder holds no results.
        ValueError: They are not finished, or damaged.
    """
    root = Path(root)
    manifest = Manifest.load(root)
    path = root / 'labels.jsonl'
    again = 'start the job that writes them again'
    if not path.is_file():
        raise ValueError(f'the results in {root} are not finished: {again}')
    records = []
    for number, line in enumerate(whole_lines(path), start=1):
        content = read_line(line, manifest.key)
        if content is None:
            raise ValueError(f'{path}, line {number} is damaged or of another job: {again}')
        for file in file_paths(content):
            hidden = Path(WORK, _hidden(content['image'], file, content['files'][file]))
            if (root / hidden).is_file():  # a job was killed while it gave names to its files
                content[_kind(file)] = hidden.as_posix()
        del content['source']
        content.pop('files', None)
        records.append(ImageRecord.from_dict(content))
    if len(records) != manifest.num_images:
        raise ValueError(
            f'{path} has {len(records)} lines for {manifest.num_images} images: {again}'
        )
    return manifest, records


def check_folder(root: str | Path) -> list[str]:
    """Check every line and file of a folder of results against its digest.

    Returns:
        What is wrong, a sentence each; nothing if all is as it was written.

    Raises:
        FileNotFoundError: The folder holds no results.
    """
    root = Path(root)
    try:
        manifest = Manifest.load(root)
    except ValueError as error:
        return [str(error)]
    path = root / 'labels.jsonl'
    if not path.is_file():
        return [f'the results in {root} are not finished']
    problems, count = [], 0
    for count, line in enumerate(whole_lines(path), start=1):
        record = read_line(line, manifest.key)
        if record is None:
            problems.append(f'{path}, line {count} is damaged')
            continue
        for file, place in file_paths(record).items():
            if find_file(root, record, file) is None:
                state = 'damaged' if (root / place).is_file() else 'missing'
                problems.append(f'{root / place}, of {record["image"]}, is {state}')
    if count != manifest.num_images:
        problems.append(f'{path} has {count} lines for {manifest.num_images} images')
    return problems


def remove_results(root: str | Path) -> None:
    """Remove a folder of results, and nothing in it that is not ours.

    Where that is interrupted before :attr:`Job.labels` is gone, all results are still there; later,
    what is left is still one of our folders, see :func:`is_half_removed`.

    Raises:
        FileNotFoundError: The folder holds no results.
        ValueError: It is not ours.
    """
    root = Path(root)
    Manifest.load(root)
    if (root / 'labels.jsonl').exists():
        move(root / 'labels.jsonl', root / REMOVED)
        sync_folder(root)
    _remove_files(root, kept=())
    _remove_work(root)
    (root / REMOVED).unlink(missing_ok=True)
    (root / CLASSES).unlink(missing_ok=True)
    sync_folder(root)
    (root / 'manifest.json').unlink()
    _remove_empty(root)


def is_half_removed(root: str | Path) -> bool:
    """Whether a folder is what an interrupted :func:`remove_results` left without labels.

    A job that is under way has a folder of journals, and none of what that left.
    """
    root = Path(root)
    if not (root / 'manifest.json').is_file() or (root / 'labels.jsonl').exists():
        return False
    return (root / REMOVED).exists() or not (root / WORK).exists()


def unfinished(out: Path) -> Path:
    """Folder of the results of a run that ends with one file."""
    return out.with_name(f'{out.name}.unfinished')


def only_clean_up_is_left(out: Path) -> bool:
    """Whether a run ended between its output file and the end of its clean-up.

    The same run, started again, completes it. What is left of results that were being removed,
    after the file was written, is removed here.
    """
    root = unfinished(out)
    if not root.is_dir():
        return False
    if is_half_removed(root):
        remove_results(root)
    return (root / 'labels.jsonl').exists()


def read_line(line: bytes, key: str) -> dict[str, Any] | None:
    """The content of a stored line without its digest.

    Args:
        line: With its end.
        key: Of the job.

    Returns:
        The record with its ``source``; None if the digest is wrong.
    """
    match = LINE.fullmatch(line)
    if match is None or _line_digest(match[1], key) != match[2]:
        return None
    return _content(line)


def file_paths(record: Mapping[str, Any]) -> dict[str, str]:
    """Paths of the files of a record, relative to the folder, by kind and ending."""
    return {file: record[_kind(file)] for file in record.get('files', ()) if _kind(file) in record}


def find_file(
    root: Path, record: Mapping[str, Any], file: str, place: Path | None = None
) -> Path | None:
    """The file of a record that has the content that the record says.

    Args:
        root: The folder.
        record: Content of a line.
        file: Kind and ending.
        place: Where else the file may be, relative to the folder.

    Returns:
        Its path; None if there is none.
    """
    of_content = record['files'][file]
    named = file_paths(record).get(file)
    # In the order in which a file moves, lest one be missed that another process moves.
    for path in (f'{WORK}/{_hidden(record["image"], file, of_content)}', named, place):
        if path is not None and _is_whole(root / path, of_content):
            return root / path
    return None


def _is_whole(path: Path, of_content: str) -> bool:
    try:
        return _digest(path.read_bytes()) == of_content
    except OSError:
        return False


def _kind(file: str) -> str:
    return file.split('.', 1)[0]


def _hidden(image: str, file: str, of_content: str) -> str:
    """Name of a file that has no name yet; other images may have files of the same content."""
    kind, suffix = file.split('.', 1)
    return f'{_digest(image.encode(errors="backslashreplace"))}-{kind}-{of_content}.{suffix}'


def _paths(
    places: Mapping[tuple[str, str], Path], record: Mapping[str, Any], name: str
) -> dict[str, str]:
    return {_kind(file): places[name, file].as_posix() for file in record.get('files', ())}


def _listed(root: Path) -> Iterator[tuple[str, str]]:
    """Paths of files that lines of any job name, with their digests."""
    sources = [root / 'labels.jsonl', root / REMOVED, *root.glob(f'{WORK}/*.jsonl')]
    for source in sources:
        try:
            for line in whole_lines(source):
                if b'"files": {' in line:
                    yield from _listed_in(line)
        except FileNotFoundError:  # not there, or another process has cleaned up
            continue


def _listed_in(line: bytes) -> Iterator[tuple[str, str]]:
    try:
        record = json.loads(line)
        for file, path in file_paths(record).items():
            if Path(path).parts[0] == _kind(file) and '..' not in Path(path).parts:
                yield path, record['files'][file]
    except (ValueError, TypeError, KeyError, AttributeError, IndexError):
        return  # a damaged line


def _content(line: bytes) -> dict[str, Any]:
    content = json.loads(line)
    del content['digest']
    return content


def _line_digest(text: bytes, key: str) -> bytes:
    return _digest(key.encode() + text).encode()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _cut(part: str) -> str:
    """The name of a file or folder, cut to what every file system holds."""
    return os.fsencode(part)[:LONGEST_STEM].decode(errors='ignore')


def _with_images(manifest: Manifest, images: Sequence[Source]) -> Manifest:
    return replace(manifest, num_images=len(images), images=digest([list(one) for one in images]))


def _one_per_line(value: Any) -> str:
    if not isinstance(value, dict) or not value:
        return json.dumps(value, ensure_ascii=False)
    lines = (f'    {json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}' for k, v in value.items())
    return '{\n' + ',\n'.join(lines) + '\n  }'


def _few(names: set[str]) -> str:
    first = sorted(names)[:3]
    return ', '.join(first) + (', ...' if len(names) > 3 else '')


def _remove_files(root: Path, kept: Any) -> None:
    """Remove the files that stored lines name, but those whose relative paths are kept."""
    for path, of_content in list(_listed(root)):
        if path not in kept:
            if _is_whole(root / path, of_content):
                (root / path).unlink(missing_ok=True)
            for folder in list(Path(path).parents)[:-1]:
                _remove_empty(root / folder)


def _remove_work(root: Path) -> None:
    work = root / WORK
    if work.is_dir():
        for path in work.iterdir():
            if OUR_WORK.fullmatch(path.name):
                path.unlink(missing_ok=True)
        _remove_empty(work)


def _remove_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):  # something in it is not ours, or another was quicker
        os.rmdir(folder)
