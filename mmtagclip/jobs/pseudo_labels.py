"""Pseudo labels on disk: written so that a job may die at any moment, read only when whole.

A folder holds

- ``manifest.json``: what the labels are of and what made them;
- ``journal/``: while the job runs, one file a process and run, a line an image (its index,
  a tab, its record), appended after everything that belongs to the image lies on the disk;
- ``labels.jsonl``: at the end, the records in the order of the data set. It appears
  whole or not at all, and only when no image is missing;
- ``masks/000123/000123456.png`` and ``probabilities/...npz``: what belongs to image
  123456, a thousand images a folder.

A job that is started again reads the journal and does what is missing. Lines that were cut
off by the end of a process are dropped, and what they spoke of is done again.
"""

import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

KINDS = ('tags', 'masks')
# What is raised where another process finished and cleaned up meanwhile, also in the middle of
# making a folder.
MEANWHILE = (FileNotFoundError, FileExistsError)


@dataclass(frozen=True)
class Manifest:
    """What a folder of pseudo labels holds and what made it.

    Attributes:
        kind: ``'tags'`` or ``'masks'``.
        classes: Class names in the order of the labels; of masks with the
            background, if there is one, as the first.
        num_images: Of the whole job.
        model: What the user called the model.
        weights: SHA-256 of its weights.
        config: SHA-256 of what decides the labels: model and pipeline.
        version: Of this package.

    Raises:
        ValueError: Unknown kind.
    """

    kind: str
    classes: tuple[str, ...]
    num_images: int
    model: str = ''
    weights: str = ''
    config: str = ''
    version: str = ''

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f'kind must be one of {", ".join(KINDS)}, not {self.kind!r}')
        object.__setattr__(self, 'classes', tuple(self.classes))

    @classmethod
    def load(cls, root: str | Path) -> 'Manifest':
        """Read a folder's manifest.

        Raises:
            FileNotFoundError: There is none.
            ValueError: It is damaged.
        """
        path = Path(root) / 'manifest.json'
        if not path.is_file():
            raise FileNotFoundError(f'{root} holds no pseudo labels: there is no {path.name}')
        try:
            return cls(**json.loads(path.read_text(encoding='utf-8')))
        except (json.JSONDecodeError, TypeError) as error:
            raise ValueError(f'{path} is no manifest of pseudo labels: {error}') from None


@dataclass
class PseudoLabelWriter:
    """Append the labels of images to a folder, so that nothing is lost and nothing is half there.

    Any number of processes may write to one folder, also by mistake: each has a
    journal of its own, files appear whole under their final names, and the same
    image always gets the same bytes.

    Args:
        root: The folder.
        manifest: What is written; a folder that was begun with another one is
            refused.

    Raises:
        ValueError: The folder was begun by another job; the message says what
            differs.
    """

    root: Path
    manifest: Manifest
    done: set[int] = field(init=False)

    def __post_init__(self) -> None:
        self.root = Path(self.root)
        self.root.mkdir(parents=True, exist_ok=True)
        self.labels = self.root / 'labels.jsonl'
        self._run = uuid.uuid4().hex
        self._check_manifest()
        self._pending: list[tuple[int, dict[str, Any], dict[str, bytes]]] = []
        self.done = {index for index, _ in self._records()}

    def add(
        self, index: int, record: dict[str, Any], files: dict[str, bytes] | None = None
    ) -> None:
        """Hand over the labels of one image; they are safe after :meth:`commit`.

        Args:
            index: Of the image in the data set.
            record: Its line, JSON values.
            files: Further content by kind and ending, such as ``{'masks.png':
                ...}``; its path, relative to the folder, goes into the record
                under the kind.
        """
        self._pending.append((index, record, files or {}))

    def commit(self) -> None:
        """Bring all that was added to the disk: files first, then the journal.

        Raises:
            OSError: The disk is full, or the like; what was committed before
                stays.
        """
        if not self._pending:
            return
        lines, folders = [], set()
        for index, record, files in self._pending:
            record = dict(record)
            for name, content in files.items():
                kind, suffix = name.split('.', 1)
                path = Path(kind, f'{index // 1000:06d}', f'{index:09d}.{suffix}')
                self._write(self.root / path, content)
                folders.add((self.root / path).parent)
                record[kind] = path.as_posix()
            lines.append(f'{index}\t{json.dumps(record, ensure_ascii=False)}\n')
        for folder in folders:
            _sync_folder(folder)
        self._append(''.join(lines).encode(errors='backslashreplace'))
        self.done.update(index for index, _, _ in self._pending)
        self._pending.clear()

    def finish(self) -> bool:
        """Commit, and if no image is missing, put the whole together and clean up.

        Returns:
            Whether the labels are complete.
        """
        self.commit()
        records = dict(self._records())
        if len(records) < self.manifest.num_images:
            return False
        self._write(self.labels, *(records[index] for index in range(self.manifest.num_images)))
        _sync_folder(self.root)
        for leftover in ('journal', 'unfinished'):
            shutil.rmtree(self.root / leftover, ignore_errors=True)
        return True

    def _records(self) -> Iterator[tuple[int, bytes]]:
        """Lines of all records that are safe, of this and earlier runs and of other processes."""
        try:
            if not self.labels.is_file():
                for journal in sorted((self.root / 'journal').glob('*.tsv')):
                    for line in _whole_lines(journal):
                        index, _, record = line.partition(b'\t')
                        yield int(index), record
        except FileNotFoundError:  # another process finished and cleaned up meanwhile
            pass
        if self.labels.is_file():
            yield from enumerate(_whole_lines(self.labels))

    def _check_manifest(self) -> None:
        path = self.root / 'manifest.json'
        if not path.is_file():
            content = json.dumps(asdict(self.manifest), indent=2, ensure_ascii=False) + '\n'
            self._write(path, content.encode())
            _sync_folder(self.root)
        begun = Manifest.load(self.root)
        for key, value in asdict(self.manifest).items():
            if getattr(begun, key) != value:
                raise ValueError(
                    f'{self.root} was begun by another job: its {key} is '
                    f'{_short(getattr(begun, key))}, now it is {_short(value)}; '
                    'write to another folder or remove this one'
                )

    def _append(self, lines: bytes) -> None:
        """Add lines to this run's journal."""
        journal = self.root / 'journal' / f'{self._run}.tsv'
        while True:
            try:
                journal.parent.mkdir(exist_ok=True)
                with journal.open('ab') as file:
                    file.write(lines)
                    file.flush()
                    os.fsync(file.fileno())
                _sync_folder(journal.parent)
                return
            except MEANWHILE:
                if journal.parent.is_file():
                    raise
            except OSError:
                self._run = uuid.uuid4().hex  # nothing may follow a line that was cut off
                raise

    def _write(self, path: Path, *content: bytes) -> None:
        """Write a file that appears whole under its name or not at all."""
        temporary = self.root / 'unfinished' / f'{self._run}-{path.name}'
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                temporary.parent.mkdir(exist_ok=True)
                with temporary.open('wb') as file:
                    file.writelines(content)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, path)
                return
            except MEANWHILE:
                if temporary.parent.is_file():
                    raise


def read_pseudo_labels(
    root: str | Path, classes: Sequence[str] | None = None
) -> tuple[Manifest, list[dict[str, Any]]]:
    """Read a whole folder of pseudo labels.

    Args:
        root: The folder.
        classes: Class names that they must have, in this order; any if None.

    Returns:
        The manifest, and a record an image in the order of the data set.

    Raises:
        FileNotFoundError: The folder holds no pseudo labels.
        ValueError: They are not finished, or have other class names.
    """
    root = Path(root)
    manifest = Manifest.load(root)
    if classes is not None and tuple(classes) != manifest.classes:
        raise ValueError(f'{root} has labels of other classes: {_difference(manifest, classes)}')
    path = root / 'labels.jsonl'
    if not path.is_file():
        raise ValueError(
            f'the pseudo labels in {root} are not finished: start the job that writes them again'
        )
    records = [json.loads(line) for line in _whole_lines(path)]
    if len(records) != manifest.num_images:
        raise ValueError(f'{path} has {len(records)} lines for {manifest.num_images} images')
    return manifest, records


def _difference(manifest: Manifest, classes: Iterable[str]) -> str:
    names = tuple(classes)
    for index, (one, other) in enumerate(zip(manifest.classes, names, strict=False)):
        if one != other:
            return f'class {index} is {one!r} there and {other!r} here'
    return f'{len(manifest.classes)} there and {len(names)} here'


def _whole_lines(path: Path) -> Iterator[bytes]:
    """Whole lines of a file; a last one without its end was cut off and is dropped."""
    with path.open('rb') as file:
        for line in file:
            if line.endswith(b'\n'):
                yield line


def _sync_folder(path: Path) -> None:
    """Make the names of new files in a folder survive a power failure."""
    if os.name == 'nt':  # folders can't be opened there
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + '...'
