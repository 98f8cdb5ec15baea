"""Listings: one row per image or tar, with an ``id`` that results are told apart by."""

import io
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from ..exports.parquet import parquet_content
from ..extras import require
from ..images import OPTIONAL as OPTIONAL_FORMATS
from ..images import SUFFIXES, missing_formats, no_image, unread_sentence
from .fetch import is_folder, is_there
from .places import (
    Place,
    absolute,
    check_address,
    files_below,
    files_like,
    full_name,
    is_address,
    open_at,
    protocols_of,
)

if TYPE_CHECKING:
    import pyarrow as pa

LIST_ENDINGS = ('.txt', '.csv', '.parquet')
TAR_ENDINGS = ('.tar', '.tar.gz', '.tgz')
LISTING = 'listing.parquet'
RANGE = re.compile(r'\{(\d+)\.\.(\d+)\}')  # of names, as shells and webdataset write it
ROWS = 100_000  # per row group of a listing


@dataclass(frozen=True, eq=False)
class Listing:
    """What there is to do.

    Attributes:
        kind: ``'images'`` or ``'tars'``.
        ids: ``(N,)`` int64, all different.
        unread: What was left out of folders, a sentence; empty if nothing.
    """

    kind: str
    ids: np.ndarray
    unread: str = ''


def make_listing(
    source: str | os.PathLike | Sequence[str | os.PathLike],
    out: str | Place,
    column: str = 'path',
    name: str = LISTING,
) -> Listing:
    """Write a listing of images or tars: a Parquet file with ``id`` (int64) and ``path``.

    Args:
        source: An image, a tar, a folder (every image below it; its tars if it has no image; the
            Parquet files in it if it has neither), or a list: a text file with one path per
            line, or a CSV or Parquet file with a column of paths. Each may be a path, or an
            address that fsspec opens. Several are listed one after the other. Relative paths
            in a list start at the list's folder. An ``id`` column of a list is kept; otherwise
            the rows are numbered from 0.
        out: Folder, a path or an address, to write ``listing.parquet`` to.
        column: The column of paths in CSV and Parquet files.
        name: Of the file.

    Raises:
        FileNotFoundError: There is no such source, or nothing in it.
        ImportError: pyarrow, or the package of a file system, is not installed.
        TypeError: Ids that are no whole numbers.
        ValueError: A column that is not there; a path or an id that is missing; an id that occurs
            twice; images and tars together.
    """
    require('pyarrow', 'parquet', 'a listing')
    import pyarrow as pa

    place = out if isinstance(out, Place) else Place(os.fspath(out))
    sources = [source] if isinstance(source, str | os.PathLike) else list(source)
    schema = pa.schema([('id', pa.int64()), ('path', pa.string())])
    reader = _Reader(column)
    rows = reader.rows([os.fspath(one) for one in sources])
    first = next(rows, None)
    if first is None:
        raise FileNotFoundError(f'no image in {" or ".join(map(str, sources[:3]))}')
    parts: list[np.ndarray] = []

    def tables() -> Iterator[Any]:
        chain = itertools.chain([first], rows)
        while part := list(itertools.islice(chain, ROWS)):
            ids = np.array([one for one, _ in part], dtype=np.int64)
            parts.append(ids)
            yield pa.table([ids, [path for _, path in part]], schema=schema)

    place.write(name, parquet_content(tables(), schema))
    return Listing(reader.kind, np.concatenate(parts), reader.unread)


def read_listing(place: Place, name: str = LISTING) -> Listing:
    """What a listing of :func:`make_listing` holds, without the paths.

    Raises:
        ValueError: It is damaged.
    """
    from pyarrow import parquet

    with place.open(name, columns=True) as file:
        table = parquet.read_table(file, columns=['id'])
    with place.open(name) as file:
        first = next(parquet.ParquetFile(file).iter_batches(1, columns=['path']))
    kind = 'tars' if is_tar(first.column(0)[0].as_py()) else 'images'
    return Listing(kind, table.column('id').to_numpy())


def listing_rows(place: Place, name: str = LISTING, rows: int = 1000) -> Iterator['pa.RecordBatch']:
    """The rows of a listing, part by part."""
    from pyarrow import parquet

    with place.open(name) as file:
        yield from parquet.ParquetFile(file).iter_batches(rows)


def expanded(source: str) -> list[str]:
    """The sources that a pattern names; any other source as it is.

    Args:
        source: With ``{000..999}`` it stands for each number. Where there is nothing of that name,
            ``*``, ``?`` and ``[a-z]`` stand for parts of a name, and ``**`` for folders.

    Raises:
        FileNotFoundError: Nothing fits the pattern.
        OSError: It can't be told now.
    """
    found = RANGE.search(source)
    if found:
        first, last = found.groups()
        numbers = (f'{number:0{len(first)}}' for number in range(int(first), int(last) + 1))
        return [
            one
            for number in numbers
            for one in expanded(source[: found.start()] + number + source[found.end() :])
        ]
    if not any(mark in source for mark in '*?[') or is_there(source):
        return [source]
    names = files_like(source)
    if not names:
        raise FileNotFoundError(f'nothing is called like {source}')
    return names


def is_tar(path: str) -> bool:
    """Whether a path has the ending of a tar."""
    return path.lower().endswith(TAR_ENDINGS)


def is_list(path: str) -> bool:
    """Whether a path has the ending of a list."""
    return path.lower().endswith(LIST_ENDINGS)


class _Reader:
    """Reads sources; afterwards it knows what they hold."""

    def __init__(self, column: str) -> None:
        self.column = column
        self.kind = ''
        self.unread = ''
        self._left_out: list[Path] = []
        self._numbered: bool | None = None  # None until the first row is known
        self._ids: list[np.ndarray] = []
        self._protocols: set[tuple[str, ...]] = set()  # of addresses in lists, checked

    def rows(self, sources: Sequence[str]) -> Iterator[tuple[int, str]]:
        """Id and path of each row."""
        number = 0
        for source in itertools.chain.from_iterable(map(expanded, sources)):
            for ids, paths in self._source(source):
                if self._numbered is None:
                    self._numbered = ids is None
                elif self._numbered != (ids is None):
                    raise ValueError(
                        f'{source}: some lists have an "id" column, others do not: add it to all '
                        'or remove it'
                    )
                if ids is None:
                    ids = np.arange(number, number + len(paths))
                else:
                    self._ids.append(ids)
                number += len(paths)
                for one, path in zip(ids.tolist(), paths, strict=True):
                    yield one, self._checked(path, source)
        self._check_ids()
        if self._left_out:
            self.unread = unread_sentence(self._left_out)

    def _check_ids(self) -> None:
        if not self._ids:
            return
        ids = np.sort(np.concatenate(self._ids))
        twice = ids[1:][ids[1:] == ids[:-1]]
        if len(twice):
            raise ValueError(f'the id {twice[0]} occurs more than once: ids must be all different')

    def _checked(self, path: str, source: str) -> str:
        kind = 'tars' if is_tar(path) else 'images'
        if self.kind and kind != self.kind:
            raise ValueError(
                f'{source} has images and tars, such as {path}: list them in separate jobs'
            )
        self.kind = kind
        try:
            path.encode()
        except UnicodeEncodeError:
            raise ValueError(
                f'{path!r} has a name that is not UTF-8, which a listing can not hold: rename it'
            ) from None
        return path

    def _source(self, source: str) -> Iterator[tuple[np.ndarray | None, list[str]]]:
        """Ids, or None, and paths, part by part."""
        if is_folder(source):
            yield from self._folder(source)
        elif not is_list(source):
            if not is_there(source):
                raise FileNotFoundError(f'no image, tar, list or folder at {source}')
            yield None, [absolute(source)]
        elif not is_there(source):
            raise FileNotFoundError(f'there is no list {source}')
        else:
            yield from self._list(source)

    def _folder(self, source: str) -> Iterator[tuple[np.ndarray | None, list[str]]]:
        missing = {suffix for kind in missing_formats() for suffix in OPTIONAL_FORMATS[kind]}
        readable = tuple(suffix for suffix in SUFFIXES if suffix not in missing)
        found = sorted(files_below(source))
        chosen = [path for path in found if path.lower().endswith(readable)]
        if not chosen:
            chosen = [path for path in found if is_tar(path)]
        if chosen:
            kept = set(chosen)
            self._left_out += [
                Path(path)
                for path in found
                if path not in kept and not PurePosixPath(path).name.startswith('.')
            ]
            yield None, [full_name(path, source) for path in chosen]
            return
        lists = [
            path
            for path in found
            if path.endswith('.parquet') and not PurePosixPath(path).name.startswith(('.', '_'))
        ]
        if not lists:
            raise FileNotFoundError(no_image(source, [Path(path) for path in found]))
        for path in lists:
            yield from self._list(full_name(path, source))

    def _list(self, source: str) -> Iterator[tuple[np.ndarray | None, list[str]]]:
        folder = absolute(source).rpartition('/')[0]

        def full(path: str) -> str:
            if '://' in path:
                self._check_protocols(path)
                return absolute(path)
            if os.path.isabs(path):
                return absolute(path)
            joined = f'{folder}/{path}'
            return joined if is_address(joined) else os.path.normpath(joined)

        with open_at(source) as file:
            if source.lower().endswith('.txt'):
                text = io.TextIOWrapper(io.BufferedReader(file), 'utf-8-sig')
                lines = (line.rstrip('\r\n') for line in text)
                named = (full(line) for line in lines if line.strip())
                try:
                    while part := list(itertools.islice(named, ROWS)):
                        yield None, part
                except UnicodeDecodeError:
                    raise ValueError(f'{source} is not UTF-8 text') from None
                return
            for batch in self._batches(source, file):
                ids, paths = self._columns(source, batch)
                yield ids, [full(path) for path in paths]

    def _check_protocols(self, path: str) -> None:
        protocols = protocols_of(path)
        if protocols not in self._protocols:
            check_address(path)
            self._protocols.add(protocols)

    def _batches(self, source: str, file: Any) -> Iterator[Any]:
        import pyarrow as pa
        from pyarrow import csv, parquet

        try:
            if source.lower().endswith('.csv'):
                as_text = csv.ConvertOptions(column_types={self.column: pa.string()})
                reader = csv.open_csv(file, convert_options=as_text)
                self._check_column(source, reader.schema.names)
                yield from reader
            else:
                whole = parquet.ParquetFile(file)
                self._check_column(source, whole.schema_arrow.names)
                has_id = ['id'] if 'id' in whole.schema_arrow.names else []
                yield from whole.iter_batches(ROWS, columns=[*has_id, self.column])
        except pa.ArrowInvalid as error:
            raise ValueError(f'{source} can not be read: {error}') from None

    def _check_column(self, source: str, names: Sequence[str]) -> None:
        if self.column not in names:
            raise ValueError(
                f'{source} has no column {self.column!r}: it has {", ".join(names)}; name the '
                'column of paths with --column, or column='
            )
        for name in (self.column, 'id'):
            if names.count(name) > 1:
                raise ValueError(
                    f'{source} has {names.count(name)} columns {name!r}: rename all but one'
                )

    def _columns(self, source: str, batch: Any) -> tuple[np.ndarray | None, list[str]]:
        import pyarrow as pa

        paths = batch.column(batch.schema.get_field_index(self.column))
        if not (pa.types.is_string(paths.type) or pa.types.is_large_string(paths.type)):
            raise TypeError(
                f'{source}: the column {self.column!r} must hold paths, not {paths.type}'
            )
        listed = paths.to_pylist()
        if paths.null_count or '' in listed:
            raise ValueError(f'{source}: a row has no {self.column!r}')
        index = batch.schema.get_field_index('id')
        if index < 0:
            return None, listed
        ids = batch.column(index)
        if ids.null_count:
            raise ValueError(f'{source}: a row has no id')
        if not pa.types.is_integer(ids.type):
            raise TypeError(
                f'{source}: ids must be whole numbers, not {ids.type}; rename the column to number '
                'the rows'
            )
        return ids.cast(pa.int64()).to_numpy(), listed
