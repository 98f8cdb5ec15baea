"""What a job would cost, from a trial of a few of its images."""

import tempfile
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..exports.parquet import parquet_content
from .checks import check_counts
from .fetch import fetch
from .listing import listing_rows, make_listing
from .loop import TarRead, members
from .places import Place, file_system, reached
from .predictor import BatchPredictor

TRIAL = 200
SIZED = 20  # tars whose size is asked for
IDS = 45  # bytes of memory for each id, in the driver at the peak


@dataclass(frozen=True)
class Plan:
    """The cost of a job, estimated; without the start of the engine.

    Attributes:
        images: How many there are; of tars, about.
        workers: How many.
        rows_per_file: Most rows that a worker loses when it is killed.
        trial: Images that were computed for it.
        errors: How many of them could not be read.
        loading: Seconds until a worker has its model and names.
        fetching: Seconds to fetch an image; it happens while others are computed.
        decoding: Seconds of a CPU core to decode one.
        computing: Seconds of a worker for one, with decoding ahead.
        read: Bytes of one, as it is stored.
        written: Bytes of its row.
    """

    images: int
    workers: int
    rows_per_file: int
    trial: int
    errors: int
    loading: float
    fetching: float
    decoding: float
    computing: float
    read: float
    written: float

    @property
    def rate(self) -> float:
        """Images per second and worker."""
        return 1 / max(self.computing, self.fetching)

    @property
    def hours(self) -> float:
        """Hours of the whole job."""
        return self.images / self.rate / self.workers / 3600

    @property
    def lost(self) -> float:
        """Seconds of one worker that are lost at most when it is killed."""
        rows = min(self.rows_per_file, self.images / (4 * self.workers))
        return rows / self.rate + self.loading

    def __str__(self) -> str:
        lines = {
            'images': f'{self.images}, of which {self.trial} were tried ({self.errors} unreadable)',
            'one worker': f'{self.rate:.2f} images/s, after {self.loading:.0f} s to load',
            f'{self.workers} worker'
            + 's' * (self.workers > 1): f'{self.hours:.2g} h, without the start of the engine',
            'read': f'{self.images * self.read / 1e9:.3g} GB',
            'written': f'{self.images * self.written / 1e9:.3g} GB',
            'cores for decoding': f'{self.decoding * self.rate * self.workers:.2g}',
            'a killed worker': f'loses up to {self.lost:.0f} s of its work',
            'a killed job': f'loses up to that of each worker; a resumed one reads '
            f'no image that is done, and needs {self.images * IDS / 1e9:.2g} GB for ids',
        }
        return '\n'.join(f'{name:20}{text}' for name, text in lines.items())


def plan(
    source: Any,
    *,
    workers: int = 1,
    rows_per_file: int = 10_000,
    column: str = 'path',
    **settings: Any,
) -> Plan:
    """Try a few images of a source in this process, and estimate the cost of all.

    Args:
        source: See :func:`~mmtagclip.batch.make_listing`. 200 images are tried, from all over a
            listing, or from the first tar.
        workers: How many there would be, each as fast as this process with one thread.
        rows_per_file: See :func:`~mmtagclip.batch.run`.
        column: The same.
        **settings: The same.

    Raises:
        ValueError: A number below 1, or the first tar has no image; see also ``run``.
    """
    check_counts(workers=workers, rows_per_file=rows_per_file)
    import pyarrow as pa

    start = time.monotonic()
    predictor = BatchPredictor(**{'threads': 1, **settings, 'key': 'image'})
    loading = time.monotonic() - start
    with tempfile.TemporaryDirectory() as folder:
        place = Place(folder)
        listing = make_listing(source, place, column)
        paths = _chosen(place, len(listing.ids), listing.kind)
    start = time.monotonic()
    if listing.kind == 'tars':
        found = []
        read_tar = TarRead()
        for found_one in members(paths[0], read_tar):
            found.append(found_one)
            if len(found) == TRIAL:
                break
        if not found:
            raise ValueError(read_tar.error or f'{paths[0]} has no image, so nothing can be tried')
        names, contents = [list(one) for one in zip(*found, strict=True)]
    else:
        names = paths
        contents = [one if isinstance(one, bytes) else None for one in fetch(paths)]
    fetching = time.monotonic() - start
    read = sum(len(content or b'') for content in contents) / len(names)
    count = len(listing.ids)
    if listing.kind == 'tars':
        sizes = [_size(path) for path in paths]
        count = round(np.mean(sizes) * count / max(read, 1))
    start = time.process_time()
    for name, content in zip(names, contents, strict=True):
        predictor.load(name, content)
    decoding = time.process_time() - start
    table = pa.table({'image': names, 'bytes': pa.array(contents, pa.large_binary())})
    start = time.monotonic()
    results = predictor(table)
    computing = time.monotonic() - start
    written = sum(map(len, parquet_content([results], results.schema)))
    tried = len(names)
    return Plan(
        count, workers, rows_per_file, tried, tried - results.column('error').null_count, loading,
        fetching / tried, decoding / tried, computing / tried, read, written / tried,
    )  # fmt: skip


def _size(path: str) -> int:
    system, inner = file_system(path)
    with reached(path):
        return system.size(inner)


def _chosen(place: Place, count: int, kind: str) -> list[str]:
    """Paths of the images to try, spread over the listing; or of the first tars."""
    number = min(count, TRIAL if kind == 'images' else SIZED)
    wanted = np.arange(number) * count // number if kind == 'images' else np.arange(number)
    import pyarrow as pa

    paths: list[str] = []
    first = 0
    for batch in listing_rows(place):
        inside = wanted[(wanted >= first) & (wanted < first + batch.num_rows)] - first
        paths += batch.column('path').take(pa.array(inside)).to_pylist() if len(inside) else []
        first += batch.num_rows
    return paths
