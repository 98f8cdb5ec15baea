"""Finished results, as a folder or as JSON lines, image by image."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import cast

import numpy as np

from ..files import is_plain
from ..images import (
    MAX_PIXELS,
    common_folder,
    file_names,
    image_size,
    output_stems,
    read_index_mask,
)
from ..labels import IGNORED, decode_runs, labels_metainfo
from ..records import ImageRecord


@dataclass(frozen=True)
class Entry:
    """The result of one image.

    Attributes:
        path: Path of the image.
        file_name: Path of the image below :attr:`Results.folder`, with ``/``.
        stem: Name of its output files, with ``/``, without ending; no two are equal.
        record: Its tags, or why it could not be read.
        size: ``(H, W)`` in pixels; None if it could not be read.
        mask: ``(H, W)`` uint8, indices of :attr:`Results.labels`, 255 is nothing; None without
            masks.
    """

    path: Path
    file_name: str
    stem: str
    record: ImageRecord
    size: tuple[int, int] | None
    mask: np.ndarray | None = None

    @property
    def scores(self) -> dict[str, float | None]:
        """Score of each tag, None where there is none."""
        scores = self.record.scores or (None,) * len(self.record.tags)
        return dict(zip(self.record.tags, scores, strict=True))


class Results:
    """Results that can be read as often as needed, one image at a time.

    An image that is listed several times, perhaps by different paths, has one entry: the first.

    Args:
        source: The folder or file that they are in.
        kind: ``'tags'`` or ``'masks'``.
        labels: Name of each label: the classes, with the background first, if there is one.
        with_background: Whether label 0 is the background.
        images: Path or name of each image, in order.
        all_scores: Whether the records have the score of every class.
        root: Folder that relative paths of images start at.
        records: Reads the records, in order.

    Attributes:
        folder: The deepest folder that all images lie in; file names are relative to it.

    Raises:
        ValueError: More than 255 labels of masks. While images are read: a mask of another size
            than its image, or with a label that has no name.
    """

    def __init__(
        self,
        source: Path,
        kind: str,
        labels: Sequence[str],
        with_background: bool,
        images: Sequence[str],
        all_scores: bool,
        root: str | Path,
        records: Callable[[], Iterable[ImageRecord]],
    ) -> None:
        self.source = source
        self.kind = kind
        self.labels = tuple(labels)
        if kind == 'masks' and len(self.labels) > IGNORED:
            raise ValueError(
                f'{source} has {len(self.labels)} labels, but masks have at most {IGNORED}: '
                'one byte per pixel'
            )
        self.with_background = with_background
        self.all_scores = all_scores
        self.root = Path(root)
        self._records = records
        paths = [os.path.abspath(self.root / image) for image in images]
        first = {path: number for number, path in reversed(list(enumerate(paths)))}
        self._is_first = [first[path] == number for number, path in enumerate(paths)]
        self._paths = [str(self.root / images[number]) for number in sorted(first.values())]
        self.folder = common_folder(self._paths)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, without the background."""
        return self.labels[int(self.with_background) :]

    @property
    def palette(self) -> list[list[int]]:
        """RGB colour of each label, in [0, 255]."""
        return labels_metainfo(self.classes, self.with_background)['palette']

    def __len__(self) -> int:
        return len(self._paths)

    @property
    def num_unreadable(self) -> int:
        """How many of the images could not be read."""
        return sum(record.error is not None for record in self._records())

    def __iter__(self) -> Iterator[Entry]:
        named = zip(self._paths, file_names(self._paths), output_stems(self._paths), strict=True)
        records = compress(self._records(), self._is_first)
        for (path, file_name, stem), record in zip(named, records, strict=True):
            size, mask = record.size, None
            if record.error is None:
                mask = self._mask(record)
                size = size or (image_size(path) if mask is None else mask.shape)  # type: ignore[assignment]
            yield Entry(Path(path), file_name, stem, record, size, mask)

    def _mask(self, record: ImageRecord) -> np.ndarray | None:
        """The labels of an image's pixels."""
        masks = record.more.get('masks')
        if isinstance(masks, str):  # a file of the folder
            return self._read_mask(self.source / masks, record.size)
        if self.kind != 'masks':
            return None
        mask = np.zeros(cast(tuple[int, int], record.size), dtype=np.uint8)
        for found in masks or ():
            try:
                inside = decode_runs(found.get('segmentation'), mask.shape)
            except ValueError as error:
                raise ValueError(f'{self.source}: {record.image}: {error}') from None
            mask[inside] = self.labels.index(found['tag'])
        return mask

    def _read_mask(self, path: Path, size: tuple[int, int] | None) -> np.ndarray:
        mask = read_index_mask(path)
        if size is not None and mask.shape != size:
            raise ValueError(f'{path} has the size {mask.shape}, but its image {size}')
        values = np.unique(mask)
        wrong = values[(values < 0) | (values >= len(self.labels)) & (values != IGNORED)]
        if len(wrong):
            raise ValueError(
                f'{path} has the label {wrong[0]}, but there are {len(self.labels)} labels, from 0 '
                f'({IGNORED} is ignored)'
            )
        return mask.astype(np.uint8, copy=False)


def open_results(
    source: str | Path, classes: Sequence[str] | None = None, root: str | Path = '.'
) -> Results:
    """Open finished results.

    Args:
        source: A folder that a run wrote, or a file of JSON lines (``.jsonl``).
        classes: Class names of a file, in order; the names that occur in it, sorted, if None. A
            folder knows its classes.
        root: Folder that relative paths of images start at.

    Raises:
        FileNotFoundError: There is no such folder or file.
        ValueError: The results are unfinished, damaged or of another format, have no image, or
            have a name that is not among the classes.
    """
    source = Path(source)
    if source.is_dir():
        from ..jobs.runner import read_results

        manifest, records = read_results(source)
        if classes is not None:
            raise ValueError(f'{source} knows its classes: leave --classes out')
        background = manifest.kind == 'masks' and manifest.classes[:1] == ('background',)
        known = [record.image for record in records]
        scored = any(record.class_scores is not None for record in records)
        return Results(
            source, manifest.kind, manifest.classes, background, known, scored, root,
            lambda: records,
        )  # fmt: skip
    if not source.is_file():
        raise FileNotFoundError(f'there are no results at {source}')
    if source.suffix.lower() != '.jsonl':
        raise ValueError(
            f'{source} is neither a folder that --out wrote nor a .jsonl file: other files of '
            'results do not hold all that formats need'
        )
    images: list[str] = []
    names: dict[str, None] = {}  # in the order of the classes, where all have a score
    tags, kinds = set(), set()
    for record in _lines(source):
        images.append(record.image)
        names.update(dict.fromkeys(record.class_scores or ()))
        tags |= _tags(record)
        if record.error is None:
            kinds.add('tags' if record.more.get('masks') is None else 'masks')
    if len(kinds) > 1:
        raise ValueError(
            f'{source} has images with masks and images without: convert one file each'
        )
    unknown = sorted({*names, *tags} - set(classes)) if classes is not None else []
    if unknown:
        raise ValueError(f'{source} has the tag {unknown[0]!r}, which is not among the classes')
    kind = kinds.pop() if kinds else 'tags'
    labels = [*names, *sorted(tags - names.keys())] if classes is None else list(classes)
    first = ['background'] if kind == 'masks' else []
    return Results(
        source,
        kind,
        [*first, *labels],
        bool(first),
        images,
        bool(names),
        root,
        lambda: _lines(source),
    )


def _lines(path: Path) -> Iterator[ImageRecord]:
    known: dict[str, int] = {}
    with path.open('rb') as file:
        for number, line in enumerate(file, start=1):
            try:
                record = ImageRecord.from_json(line)
                _check_masks(record)
                if '\0' in record.image or not all(map(is_plain, _tags(record))):
                    raise ValueError(
                        'the name of the image or of a tag has a character that is no text'
                    )
                if known.setdefault(record.image, hash(line.strip())) != hash(line.strip()):
                    raise ValueError(f'it is a second, other result of {record.image}')
            except (ValueError, TypeError) as error:
                raise ValueError(f'{path}, line {number} is broken: {error}') from None
            yield record


def _tags(record: ImageRecord) -> set[str]:
    """All class names of a record."""
    masks = record.more.get('masks') or ()
    return {*record.tags, *(record.class_scores or ()), *(found['tag'] for found in masks)}


def _check_masks(record: ImageRecord) -> None:
    masks = record.more.get('masks')
    if masks is None:
        return
    if not isinstance(masks, list):
        raise ValueError('its "masks" is no list: give the folder that holds this file')
    if not all(isinstance(one, dict) and isinstance(one.get('tag'), str) for one in masks):
        raise ValueError('each of its "masks" must be an object with a "tag" (a string)')
    if record.size is None or record.size[0] * record.size[1] > MAX_PIXELS:
        raise ValueError(f'masks need a "size" of at most {MAX_PIXELS} pixels')


def printable(name: str) -> str:
    r"""A name that UTF-8 can hold: bytes of file names that it can't become ``\udc..``."""
    return name.encode(errors='backslashreplace').decode()


def plain(name: str) -> str:
    r"""A name that lines and XML can hold, too: control characters become ``\n``, ``\x01``, ..."""
    return ''.join(one if is_plain(one) else repr(one)[1:-1] for one in name)
