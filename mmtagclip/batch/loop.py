"""What a process does with rows of a listing: fetch, predict, and pass the results on."""

import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..exports.results import printable
from ..images import SUFFIXES
from .fetch import fetch, is_there
from .places import is_address, open_at

if TYPE_CHECKING:
    import pyarrow as pa

    from .predictor import BatchPredictor

ROWS = 32  # fetched together, while those before are computed; more if batches are large


def predicted_images(predictor: 'BatchPredictor', rows: Any) -> Iterator['pa.Table']:
    """Results of the images of a listing, a few rows at a time.

    Args:
        predictor: Of the columns ``id`` and ``image``.
        rows: A table with ``id`` and ``path``.

    Raises:
        OSError: See :func:`~mmtagclip.batch.fetch.fetch`.
    """
    import pyarrow as pa

    together = max(ROWS, 4 * predictor.batch_size)
    parts = [rows.slice(start, together) for start in range(0, rows.num_rows, together)]
    with ThreadPoolExecutor(1) as pool:
        ahead = [pool.submit(fetch, part.column('path').to_pylist()) for part in parts[:1]]
        for number, part in enumerate(parts):
            contents = ahead.pop().result()
            for after in parts[number + 1 : number + 2]:
                ahead.append(pool.submit(fetch, after.column('path').to_pylist()))
            read = [one if isinstance(one, bytes) else None for one in contents]
            columns = [part.column('id'), part.column('path'), pa.array(read, pa.large_binary())]
            results = predictor(pa.Table.from_arrays(columns, ['id', 'image', 'bytes']))
            yield _with_errors(results, contents)


def _with_errors(results: 'pa.Table', contents: Sequence[bytes | str | None]) -> 'pa.Table':
    """Results that say why an image could not be fetched, where a text says it."""
    import pyarrow as pa

    if not any(isinstance(one, str) for one in contents):
        return results
    index = results.schema.get_field_index('error')
    errors = results.column(index).to_pylist()
    said = [
        one if isinstance(one, str) else error for one, error in zip(contents, errors, strict=True)
    ]
    return results.set_column(index, results.schema.field(index), pa.array(said, pa.string()))


@dataclass
class TarRead:
    """What a tar held.

    Attributes:
        images: How many of its files are images.
        errors: How many of these could not be read.
        error: Why it ended early; None if it did not.
    """

    images: int = 0
    errors: int = 0
    error: str | None = None


def predicted_tar(predictor: 'BatchPredictor', path: str, read: TarRead) -> Iterator['pa.Table']:
    """Results of the images in a tar, a few rows at a time; the tar is read as a stream.

    Args:
        predictor: Of the column ``image``.
        path: Path or address of the tar.
        read: To be filled.

    Raises:
        OSError: The tar can't be reached now.
    """
    import pyarrow as pa

    names: list[str] = []
    contents: list[bytes] = []

    def predicted() -> Any:
        table = pa.table({'image': names, 'bytes': pa.array(contents, pa.large_binary())})
        names.clear()
        contents.clear()
        results = predictor(table)
        read.images += results.num_rows
        read.errors += results.num_rows - results.column('error').null_count
        return results

    for name, content in members(path, read):
        names.append(name)
        contents.append(content)
        if len(names) == max(ROWS, 4 * predictor.batch_size):
            yield predicted()
    if names:
        yield predicted()


def members(path: str, read: TarRead) -> Iterator[tuple[str, bytes]]:
    """Name and content of each image in a tar, until its end or a damaged place.

    Raises:
        OSError: It can't be reached now.
    """
    ended = False

    class Member(tarfile.TarInfo):
        @classmethod
        def fromtarfile(cls, tarfile_: Any) -> Any:
            nonlocal ended
            try:
                return super().fromtarfile(tarfile_)
            except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
                ended = True  # an end mark; tarfile takes a missing one and a torn header for it
                raise

    try:
        if not is_there(path):
            read.error = f'there is no tar {path}'
            return
        with (
            open_at(path) as file,
            tarfile.open(fileobj=file, mode='r|*', tarinfo=Member) as tar,
        ):
            for member in tar:
                if member.isfile() and member.name.lower().endswith(SUFFIXES):
                    content = tar.extractfile(member)
                    assert content is not None  # of a file
                    yield printable(member.name), content.read()
        if not ended:
            read.error = f'{path} is a damaged or truncated tar: it has no end mark'
    except (tarfile.TarError, EOFError) as error:
        read.error = f'{path} is a damaged or truncated tar: {error}'
    except PermissionError as error:
        if is_address(path):  # of a store, a later try may help
            raise
        read.error = str(error)
