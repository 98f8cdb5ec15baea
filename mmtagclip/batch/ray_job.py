"""The job on Ray Data: its options, its passes, and what is checked when it has ended."""

import contextlib
import functools
import itertools
import logging
import math
import os
import re
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from .. import lazy
from ..exports.parquet import parquet_content
from ..extras import require
from .checks import check_counts
from .listing import LISTING, Listing
from .loop import TarRead, predicted_images, predicted_tar
from .places import Place

if TYPE_CHECKING:
    import pyarrow as pa

CHECKPOINT = '_checkpoint'
PENDING = '.pending.parquet'
PART = re.compile(r'\.[0-9a-f]{32}\.part')  # what a killed process was writing
LEDGER = '_ledger'
# Bounds, so that a worker that dies again and again ends the job. Ray's defaults are endless.
TRIES = 3  # of a block, then it is left to the next pass
RESTARTS = 30  # of a worker, besides those that lost blocks cost
LOST_BLOCKS = 10  # in a pass, or a twentieth of its blocks; more end the job
NEXT_PASS = 100  # times smaller blocks, down to one row
STARTS = 3  # of Ray on this machine
# Lines that Ray prints to standard output: workers that start, that die, and tasks tried again.
NOTICES = 'worker processes have been started|worker died or was killed|retries remaining'
# Logical CPUs besides those of the workers: to read, to write, and to filter what is done. A
# resumed job would wait for the last forever.
OTHER_CPUS = 3


class JobError(OSError):
    """A job that ended early; what was done is safe."""


class Counter:
    """Counts finished images, and keeps the last error; an actor of Ray."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Forget what was before; for another job."""
        self.count = 0
        self.error = ''

    def add(self, number: int) -> None:
        """Count."""
        self.count += number

    def fail(self, error: str) -> None:
        """Keep an error."""
        self.error = error

    def value(self) -> int:
        """The count."""
        return self.count

    def last_error(self) -> str:
        """The last error of a worker; empty if there was none."""
        return self.error


class Worker:
    """Computes the images of a listing; an actor of Ray.

    Args:
        build: Makes the predictor from its ``names`` and ``key``.
        names: Reference to the names.
        counter: A :class:`Counter`.
    """

    key: str | tuple[str, ...] = ('id', 'image')

    def __init__(self, build: Callable[..., Any], names: list[Any], counter: Any) -> None:
        import ray

        self.counter = counter
        self.predictor = build(names=ray.get(names[0]), key=self.key)

    def __call__(self, rows: 'pa.Table') -> Iterator['pa.Table']:
        """Results of a block of a listing."""
        try:
            yield from self.results(rows)
        except Exception as error:  # Ray drops it with the block
            self.counter.fail.remote(f'{type(error).__name__}: {error}')
            raise

    def results(self, rows: 'pa.Table') -> Iterator['pa.Table']:
        """The same."""
        for results in predicted_images(self.predictor, rows):
            self.counter.add.remote(results.num_rows)
            yield results


class TarWorker(Worker):
    """Computes whole tars: one Parquet file each, put whole, and a row of the ledger.

    Args:
        build: As of :class:`Worker`.
        names: The same.
        counter: The same.
        out: Folder of the Parquet files.
        stems: Of each tar's file, by the tar's id.
    """

    key = 'image'

    def __init__(
        self,
        build: Callable[..., Any],
        names: list[Any],
        counter: Any,
        out: str,
        stems: Mapping[int, str],
    ) -> None:
        super().__init__(build, names, counter)
        self.out, self.stems = Place(out), stems

    def results(self, rows: 'pa.Table') -> Iterator['pa.Table']:
        """Rows of the ledger for some tars."""
        import pyarrow as pa

        for one in rows.to_pylist():
            start, read = time.monotonic(), TarRead()
            name = f'{self.stems[one["id"]]}.parquet'
            schema = pa.schema(
                [('image', pa.string()), *self.predictor.result_schema],
                metadata=self.predictor.result_schema.metadata,
            )
            tables = self._counted(predicted_tar(self.predictor, one['path'], read))
            self.out.write(name, parquet_content(tables, schema))
            yield pa.table(
                {
                    'id': pa.array([one['id']], pa.int64()),
                    'tar': [one['path']],
                    'file': [name],
                    'images': [read.images],
                    'errors': [read.errors],
                    'error': pa.array([read.error], pa.string()),
                    'seconds': [time.monotonic() - start],
                }
            )

    def _counted(self, tables: Iterator['pa.Table']) -> Iterator['pa.Table']:
        for table in tables:
            self.counter.add.remote(table.num_rows)
            yield table


def predictor(**arguments: Any) -> Any:
    """A :class:`BatchPredictor` for a worker; its packages are imported without collection."""
    lazy.ours = True  # the process does nothing else
    from . import BatchPredictor

    return BatchPredictor(**arguments)


def import_ray() -> Any:
    """Ray, without :data:`NOTICES`."""
    os.environ.setdefault('RAY_DEDUP_LOGS_SKIP_REGEX', NOTICES)
    os.environ.setdefault('RAY_BACKEND_LOG_LEVEL', 'fatal')
    import ray
    import ray.data

    return ray


@contextlib.contextmanager
def _mute() -> Iterator[None]:
    """Hide what C++ writes to standard error: the level of its log, which import_ray sets."""
    sys.stderr.flush()
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


class Cluster:
    """Ray, started here or joined, for the duration of a ``with``.

    Args:
        address: ``'local'`` to start it on this machine; ``'auto'`` or ``HOST:PORT`` to join one.
        workers: How many; as many as fit if None.
        gpus: GPUs of each; one if the cluster has any, if None.

    Attributes:
        workers: How many.
        gpus: GPUs of each.

    Raises:
        ConnectionError: No cluster is at the address.
        ImportError: Ray is not installed.
        ValueError: A number is out of range, the cluster has too few CPUs or GPUs, or has another
            version of Ray or Python.
    """

    def __init__(self, address: str, workers: int | None, gpus: float | None) -> None:
        require('ray', 'ray', '--engine ray')
        require('pyarrow', 'ray', '--engine ray')
        check_counts(workers=workers)
        if gpus is not None and not 0 <= gpus < math.inf:
            raise ValueError(f'gpus_per_worker must be at least 0, not {gpus}')
        self.address, self._workers, self._gpus = address, workers, gpus
        self.workers, self.gpus = 1, 0.0
        self._ours = False

    def __enter__(self) -> 'Cluster':
        ray = import_ray()
        if not ray.is_initialized():
            self._start()
            self._ours = True
        try:
            self._settle(ray.cluster_resources())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: Any) -> None:
        if self._ours:
            import_ray().shutdown()

    @functools.cached_property
    def counter(self) -> Any:
        """A :class:`Counter`, one for all jobs: it is a process."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        # On the driver's node: it must outlive the others.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        return ray.remote(Counter).options(num_cpus=0, scheduling_strategy=here).remote()

    def _start(self) -> None:
        ray = import_ray()
        quiet: dict[str, Any] = {
            'logging_level': logging.ERROR,
            'log_to_driver': False,
            'include_dashboard': False,
        }
        if self.address == 'local':
            # Logical ones, which only say how much runs at once: a worker for each real one.
            wanted = (self._workers or _cpus()) + OTHER_CPUS
            quiet['num_cpus'] = max(_cpus(), wanted)
        else:
            del quiet['include_dashboard']
        for left in range(STARTS - 1, -1, -1):
            try:
                with warnings.catch_warnings(), _mute():
                    warnings.simplefilter('ignore')
                    ray.init(address=self.address, **quiet)
                return
            except ConnectionError:
                raise ConnectionError(
                    f'there is no Ray cluster at {self.address}: start one with `ray start '
                    '--head`, or leave --address out to use this machine'
                ) from None
            except Exception as error:
                if 'ersion mismatch' in str(error):
                    raise ValueError(
                        f'the cluster at {self.address} has another version of Ray or Python '
                        f'than this machine: {" ".join(str(error).split())}'
                    ) from None
                # Ray gives a node 30 seconds to start, which a busy machine may not keep.
                if 'timed out during startup' not in str(error) or not left:
                    raise
                ray.shutdown()

    def _settle(self, has: Mapping[str, float]) -> None:
        cpus, gpus = int(has.get('CPU', 0)), has.get('GPU', 0)
        self.gpus = float(gpus >= 1) if self._gpus is None else self._gpus
        if self.gpus > gpus:
            raise ValueError(
                f'each worker needs {_number(self.gpus, "GPU")}, and the cluster has {gpus:g}: '
                '--gpus-per-worker 0 uses CPUs'
            )
        fit = cpus - OTHER_CPUS
        if self.gpus:
            fit = min(fit, int(gpus / self.gpus))
        workers = max(1, fit) if self._workers is None else self._workers
        if workers + OTHER_CPUS > cpus:
            raise ValueError(
                f'{_number(workers, "worker")} {"needs" if workers == 1 else "need"} '
                f'{workers + OTHER_CPUS} CPUs, and the cluster has {cpus}: '
                f'one for each worker, and {OTHER_CPUS} to read, to write and to find what is done'
            )
        if self.gpus and workers * self.gpus > gpus:
            raise ValueError(
                f'{_number(workers, "worker")} {"needs" if workers == 1 else "need"} '
                f'{_number(workers * self.gpus, "GPU")}, and the cluster has {gpus:g}'
            )
        self.workers = workers


def _cpus() -> int:
    """The CPUs of this machine that this process may use."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _number(count: float, what: str) -> str:
    return f'{count:g} {what}' + ('' if count == 1 else 's')


def run_passes(
    cluster: Cluster,
    place: Place,
    listing: Listing,
    build: Callable[..., Any],
    names: bytes,
    rows_per_file: int,
    done: np.ndarray,
    quiet: bool,
) -> tuple[int, str]:
    """Compute what is missing, in blocks that get smaller if some were lost.

    A block whose worker dies several times is left out of a pass, so that it does not hold up the
    others; in the end such an image is a block of its own.

    Args:
        cluster: Where.
        place: The output, with its listing.
        listing: What there is to do.
        build: Makes the predictor of a worker from its ``names`` and ``key``.
        names: Of :meth:`BatchPredictor.packed_names <mmtagclip.batch.BatchPredictor>`.
        rows_per_file: Most rows of a block.
        done: Ids that are there.
        quiet: Whether to show no progress.

    Returns:
        How many images were computed, with those that were computed again; and the last error of a
        worker, empty if there was none.

    Raises:
        JobError: Too many blocks were lost.
        OSError: An image could not be fetched, again and again.
    """
    import ray

    missing = len(listing.ids) - len(done)
    rows = 1
    if listing.kind == 'images':
        # A few blocks for each worker, so that all have something to do until the end.
        rows = max(1, min(rows_per_file, math.ceil(missing / (4 * cluster.workers))))
    counter = cluster.counter
    counter.begin.remote()
    names_there = ray.put(names)
    with _progress(counter, listing, missing, quiet):
        while True:
            _one_pass(
                cluster, place, listing, build, [names_there], counter, rows,
                math.ceil(missing / rows),
            )  # fmt: skip
            clean(place, listing.kind)
            found = done_ids(place, listing.kind)
            missing = len(listing.ids) - len(np.unique(found))
            if rows == 1 or (missing == 0 and len(found) == len(listing.ids)):
                return ray.get(counter.value.remote()), ray.get(counter.last_error.remote())
            rows = max(1, rows // NEXT_PASS)


def _one_pass(
    cluster: Cluster,
    place: Place,
    listing: Listing,
    build: Callable[..., Any],
    names: list[Any],
    counter: Any,
    rows: int,
    blocks: int,
) -> None:
    import ray
    from ray.data import ActorPoolStrategy, DataContext
    from ray.data.checkpoint import CheckpointConfig

    filesystem = place.arrow_filesystem()
    tars = listing.kind == 'tars'
    before = DataContext.get_current()
    context = before.copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.use_datasource_v2 = False  # it starts 32 processes to read the end of one file
    context.max_errored_blocks = max(LOST_BLOCKS, blocks // 20)
    context.actor_task_retry_on_errors = [OSError]  # type: ignore[list-item]
    context.checkpoint_config = CheckpointConfig(
        'id',
        f'{place.address}/{CHECKPOINT}',
        delete_checkpoint_on_success=False,
        override_filesystem=filesystem,
    )
    arguments: dict[str, Any] = {'build': build, 'names': names, 'counter': counter}
    if tars:
        arguments |= {'out': place.address, 'stems': tar_stems(place)}
    target = f'{place.address}/{LEDGER}' if tars else place.address
    DataContext._set_current(context)
    try:
        with _silence():
            dataset = ray.data.read_parquet(
                f'{place.address}/_{LISTING}', filesystem=filesystem, columns=['id', 'path']
            )
            dataset = dataset.repartition(target_num_rows_per_block=rows, strict=True)
            dataset = dataset.map_batches(
                TarWorker if tars else Worker,
                batch_size=None,
                batch_format='pyarrow',
                fn_constructor_kwargs=arguments,
                compute=ActorPoolStrategy(
                    size=min(cluster.workers, max(1, blocks)),
                    # What waits at a worker dies with it. No later pass would take it up.
                    max_tasks_in_flight_per_actor=1 if rows == 1 else None,
                ),
                num_cpus=1,
                num_gpus=cluster.gpus or None,
                # Ray waits forever once no worker is left: the bound on lost blocks comes first.
                max_restarts=TRIES * (context.max_errored_blocks + 1) + RESTARTS,
                max_task_retries=TRIES - 1,
            )
            dataset.write_parquet(target, filesystem=filesystem)
    except Exception as error:
        raise _of_job(error) from error
    finally:
        DataContext._set_current(before)


def _of_job(error: Exception) -> Exception:
    """The error of a worker that ended a job, without what Ray wraps it in."""
    import ray

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ray.exceptions.RayTaskError) and cause.cause is not None:
            cause = cause.cause
        for kind in (OSError, ValueError, FileNotFoundError, TypeError, ImportError):
            if type(cause) is kind:
                return kind(str(cause))
        cause = cause.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return JobError(
        f'the job ended early: {lines[-1] if lines else type(error).__name__}. Run the same '
        'command again to resume'
    )


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Hide Ray's notices; what matters becomes an exception or is counted at the end."""
    loggers = [logging.getLogger(name) for name in ('ray', 'ray.data')]
    levels = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)


@contextlib.contextmanager
def _progress(counter: Any, listing: Listing, missing: int, quiet: bool) -> Iterator[None]:
    """One line that shows how many images were computed; of tars the number is not known."""
    import ray

    ended = threading.Event()
    total = missing if listing.kind == 'images' else None

    def show() -> None:
        with tqdm(total=total, unit='image', disable=True if quiet else None) as bar:
            while not ended.wait(1):
                with contextlib.suppress(Exception):  # the counter may be away with its node
                    bar.update(ray.get(counter.value.remote(), timeout=10) - bar.n)

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def done_ids(place: Place, kind: str) -> np.ndarray:
    """Ids of the rows that are there, as often as they are there."""
    found = [table.column('id').to_numpy() for table in done_rows(place, kind, ['id'])]
    return np.concatenate([np.zeros(0, np.int64), *found])


def done_rows(place: Place, kind: str, columns: list[str]) -> Iterator['pa.Table']:
    """Columns of each file of rows, but for files whose writing was not committed."""
    from pyarrow import parquet

    pending = tuple(_pending(place))
    for name in _row_files(place, kind):
        if not name.rpartition('/')[2].startswith(pending):
            with place.open(name, columns=True) as file:
                yield parquet.read_table(file, columns=columns)


def clean(place: Place, kind: str) -> None:
    """Remove files whose writing was not committed; only while no job runs."""
    pending = _pending(place)
    for name in _row_files(place, kind):
        if name.rpartition('/')[2].startswith(tuple(pending)):
            place.remove(name)
    for name in place.files(CHECKPOINT, PENDING):
        place.remove(f'{CHECKPOINT}/{name}')
    for name in filter(PART.fullmatch, place.files()):
        place.remove(name)


def _pending(place: Place) -> list[str]:
    """How the names of files begin whose writing was not committed: torn ones, or not there.

    Ray writes ``X.pending.parquet`` to the checkpoint, then ``X_....parquet``, and then renames the
    first to ``X.parquet``. A store copies and removes instead: if both are there, it is committed.
    """
    names = set(place.files(CHECKPOINT, '.parquet'))
    stems = [name.removesuffix(PENDING) for name in names if name.endswith(PENDING)]
    return [stem for stem in stems if f'{stem}.parquet' not in names]


def _row_files(place: Place, kind: str) -> list[str]:
    folder = f'{LEDGER}/' if kind == 'tars' else ''
    names = place.files(folder.rstrip('/'), '.parquet')
    return [folder + name for name in names if not name.startswith('_')]


def tar_stems(place: Place) -> dict[int, str]:
    """Path of each tar's file in the output, without ending, by the tar's id.

    Raises:
        ValueError: Two tars would have the same file, or one a file of the job.
    """
    from .listing import TAR_ENDINGS, listing_rows

    paths: dict[int, str] = {}
    for batch in listing_rows(place, f'_{LISTING}'):
        paths.update(zip(*(batch.column(one).to_pylist() for one in ('id', 'path')), strict=True))
    folders = [path.split('/')[:-1] for path in paths.values()]
    pairs = zip(min(folders), max(folders), strict=False)  # what they share, all share
    common = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
    stems: dict[int, str] = {}
    taken: dict[str, str] = {}
    for one, path in paths.items():
        stem = '/'.join(path.split('/')[common:])
        stem = next(stem[: -len(end)] for end in TAR_ENDINGS if stem.lower().endswith(end))
        if stem.startswith('_'):  # such as _listing.tar
            raise ValueError(f'{path} would have the output {stem}.parquet: rename it without "_"')
        if stem in taken:
            raise ValueError(f'{taken[stem]} and {path} would have the same output {stem}.parquet')
        taken[stem] = path
        stems[one] = stem
    return stems
