"""Jobs over listings: with an engine into a folder, or in this process into one file."""

import functools
import itertools
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..apis.model_zoo import encoder_configs, load_config
from ..clip import load_templates
from ..exports.parquet import parquet_content
from ..files import user_path
from ..jobs.runner import Manifest
from ..models.taggers.open_names import AutoNames
from . import ray_job
from .checks import check_counts
from .fetch import digest_of
from .listing import LISTING, Listing, expanded, is_list, listing_rows, make_listing, read_listing
from .loop import TarRead, predicted_images, predicted_tar
from .places import Place, absolute, write_at
from .predictor import BatchPredictor

if TYPE_CHECKING:
    import pyarrow as pa

MANIFEST = '_manifest.json'
TEXT = re.compile(r'[._]text$')  # text features in a manifest
NAMED = 5  # missing ones that are named
Sources = str | os.PathLike | Sequence[str | os.PathLike]


@dataclass(frozen=True)
class Summary:
    """What a job did.

    Attributes:
        images: Rows in the output; of tars, the images in them.
        errors: Images that could not be read, and tars that ended early.
        missing: Paths of images or tars without a row, the first few.
        num_missing: How many have none.
        seconds: Of this run; 0 if there was nothing left to do.
        computed: Images of this run.
        unread: What was left out of folders, a sentence; empty if nothing.
        examples: What was wrong with the first few images.
        reason: The last error of a worker in this run; empty if there was none, or its process
            died.
        listed: That the listing of an earlier start was used, a sentence; empty if it was not.
    """

    images: int
    errors: int
    missing: tuple[str, ...] = ()
    num_missing: int = 0
    seconds: float = 0.0
    computed: int = 0
    unread: str = ''
    examples: tuple[str, ...] = ()
    reason: str = ''
    listed: str = ''

    @property
    def is_whole(self) -> bool:
        """Whether every image and tar has its row."""
        return not self.num_missing

    def __str__(self) -> str:
        rate = f', {self.computed / self.seconds:.1f} images/s' if self.computed else ''
        return f'{self.images} images, {self.errors} errors, {self.num_missing} missing{rate}'


def run(
    source: Sources,
    out: str | os.PathLike,
    *,
    engine: str | None = 'ray',
    address: str = 'local',
    workers: int | None = None,
    gpus_per_worker: float | None = None,
    rows_per_file: int = 10_000,
    column: str = 'path',
    quiet: bool = False,
    **settings: Any,
) -> Summary:
    """Tag or segment the images of a source.

    With an engine, the output is a folder of Parquet files, on this machine or in a store. Called
    again with the same arguments, it does what is missing: the folder holds the listing, a
    manifest of what decides the results, and until all is done a checkpoint. Each row has the
    image's ``id`` and its path ``image``, and the columns of :class:`BatchPredictor`; the order of
    rows is that in which they were done. Of tars, each has a file of its own with the rows in the
    tar's order, and the folder ``_ledger`` has a row for each tar.

    Without an engine, the output is one Parquet file, and a run that was stopped begins again.

    Args:
        source: See :func:`make_listing`. A folder is listed once, at the first start.
        out: The folder; without an engine the file.
        engine: ``'ray'`` or None.
        address: Of the Ray cluster; ``'local'`` starts Ray on this machine.
        workers: How many actors; as many as fit if None. Each has one thread and loads the model.
        gpus_per_worker: GPUs of each, also a part of one; one if the cluster has any, if None.
        rows_per_file: Most rows of a file; a killed worker loses at most one file.
        column: See :func:`make_listing`.
        quiet: Whether to show no progress.
        **settings: Of :class:`BatchPredictor`: ``model``, ``classes`` and so on, but for ``key``,
            ``content``, ``decoders``, ``names`` and ``threads``.

    Returns:
        What was done. Check :attr:`Summary.is_whole`.

    Raises:
        ConnectionError: There is no such cluster.
        FileExistsError: The output holds other things, or is complete but its checkpoint is gone.
        FileNotFoundError: There is no such source, model or weights.
        ImportError: Ray, pyarrow or a file system's package is not installed.
        OSError: An image could not be fetched, again and again; or the job ended early, and what
            was done is safe.
        ValueError: A bad option, or the output was begun with another model, weights, names or
            options.
    """
    if engine not in ('ray', None):
        raise ValueError(f"engine must be 'ray' or None, not {engine!r}")
    check_counts(rows_per_file=rows_per_file)
    if engine is None:
        return _run_here(source, os.fspath(out), column, settings)
    cluster = ray_job.Cluster(address, workers, gpus_per_worker)
    place = Place(os.fspath(out))
    stored, listed = _begun(place), ''
    settings = portable(settings)
    predictor = BatchPredictor(**settings)
    manifest = _manifest(predictor, source, column)
    if stored is not None:
        manifest.check_same(stored, place.address)
        listing = read_listing(place, f'_{LISTING}')
        listed = f'listed at the first start: {len(listing.ids)} {listing.kind}'
    else:
        listing = make_listing(source, place, column, f'_{LISTING}')
        if listing.kind == 'tars':
            ray_job.tar_stems(place)  # refuses two of one name
        place.write(MANIFEST, replace(manifest, num_images=len(listing.ids)).encode())
    ray_job.clean(place, listing.kind)
    done = ray_job.done_ids(place, listing.kind)
    start, computed, reason = time.monotonic(), 0, ''
    if not _is_whole(done, listing):
        if len(done) and not place.files(ray_job.CHECKPOINT):
            raise FileExistsError(
                f'{place.address} has {len(done)} of {len(listing.ids)} rows, but no checkpoint, '
                'so it can not be resumed: write to another folder, or remove this one'
            )
        names = predictor.packed_names()
        if 'thresholds' in predictor.options:  # as read: workers may not have the file
            settings['thresholds'] = predictor.options['thresholds']
        del predictor  # the memory of a model
        with cluster:
            device = 'cuda' if cluster.gpus else 'cpu'
            build = functools.partial(ray_job.predictor, **settings, device=device, threads=1)
            computed, reason = ray_job.run_passes(
                cluster, place, listing, build, names, rows_per_file, np.unique(done), quiet
            )
    seconds = time.monotonic() - start
    summary = summarise(place, listing)
    if summary.is_whole:
        place.remove(ray_job.CHECKPOINT)
    return replace(
        summary, seconds=seconds, computed=computed, unread=listing.unread, reason=reason,
        listed=listed,
    )  # fmt: skip


def _run_here(source: Sources, out: str, column: str, settings: dict[str, Any]) -> Summary:
    """Without an engine: one file, in the order of the source."""
    if not out.endswith('.parquet'):
        raise ValueError(f'without an engine the output is a file that ends in .parquet, not {out}')
    with tempfile.TemporaryDirectory() as folder:
        place = Place(folder)
        listing = make_listing(source, place, column)
        key = 'image' if listing.kind == 'tars' else ('id', 'image')
        predictor = BatchPredictor(**settings, key=key)
        damaged: list[str] = []
        tables = _tables(predictor, place, listing, damaged)
        first = next(tables, None)
        if first is None:
            raise OSError(damaged[0] if damaged else f'no image in {_texts(source)[0]}')
        count = [0, 0]
        examples: list[str] = []
        start = time.monotonic()

        def counted() -> Iterator[Any]:
            for table in itertools.chain([first], tables):
                wrong = table.column('error').drop_null()
                count[0] += table.num_rows
                count[1] += len(wrong)
                examples.extend(wrong.slice(0, NAMED).to_pylist())
                yield table

        write_at(out, parquet_content(counted(), first.schema))
    return Summary(
        count[0], count[1] + len(damaged), seconds=time.monotonic() - start, computed=count[0],
        unread=listing.unread, examples=(*damaged, *examples)[:NAMED],
    )  # fmt: skip


def _tables(
    predictor: BatchPredictor, place: Place, listing: Listing, damaged: list[str]
) -> Iterator['pa.Table']:
    """Results of a listing in its order, a few rows at a time; adds what is wrong with tars."""
    import pyarrow as pa

    for batch in listing_rows(place):
        if listing.kind == 'images':
            yield from predicted_images(predictor, batch)
            continue
        for path in batch.column('path').to_pylist():
            read = TarRead()
            for table in predicted_tar(predictor, path, read):
                yield table.add_column(0, 'tar', pa.array([path] * table.num_rows))
            if read.error is not None:
                damaged.append(read.error)


def portable(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings that mean the same in processes with another working folder."""
    settings = dict(settings)
    config = load_config(settings.pop('model'), encoder=settings.pop('encoder', None))
    for part in encoder_configs(config):
        if isinstance(part.get('checkpoint'), str):
            part['checkpoint'] = _absolute_file(part['checkpoint'])
    for name in ('weights', 'thresholds', 'descriptions', 'labels'):
        if isinstance(settings.get(name), str | os.PathLike):
            settings[name] = _absolute_file(settings[name])
    classes = settings.get('classes')
    if isinstance(classes, AutoNames):
        files = {name: getattr(classes, name) for name in ('names', 'captions')}
        files = {
            name: _absolute_file(file)
            for name, file in files.items()
            if isinstance(file, str | os.PathLike)
        }
        settings['classes'] = replace(classes, **files)
    for name in ('device', 'threads', 'key', 'content', 'names', 'decoders'):
        if settings.pop(name, None) is not None:
            raise ValueError(f'{name} is chosen by the engine: leave it out')
    return {'model': config, **settings}


def _absolute_file(path: str | os.PathLike) -> str:
    there = user_path(os.fspath(path))
    return os.path.abspath(there) if there.exists() else str(path)


def _manifest(predictor: BatchPredictor, source: Sources, column: str) -> Manifest:
    manifest = predictor.manifest
    sources = [absolute(one) for one in _texts(source)]
    lists = {
        f'content of {one}': digest_of(one)
        for text in sources
        if is_list(text)
        for one in expanded(text)
    }
    return replace(
        manifest, job={**_without_text(manifest.job), 'source': sources, 'column': column, **lists}
    )


def _without_text(job: Mapping[str, Any]) -> dict[str, Any]:
    """What decides results, without text features: on another processor, they differ a little.

    They follow from what is left: weights, names, and templates, which a file may hold.
    """
    return {
        key: list(load_templates(value))
        if key.endswith('.templates') and isinstance(value, str)
        else value
        for key, value in job.items()
        if not (TEXT.search(key) and str(value).startswith('tensor '))
    }


def _texts(source: Sources) -> list[str]:
    sources = [source] if isinstance(source, str | os.PathLike) else list(source)
    return [os.fspath(one) for one in sources]


def _begun(place: Place) -> Manifest | None:
    """The manifest of an output that was begun; None if it is to be begun.

    Raises:
        FileExistsError: It holds other things.
    """
    content = place.read(MANIFEST)
    if content is not None:
        return Manifest.decode(content, f'{place.address}/{MANIFEST}')
    others = {name for name in place.files() if not ray_job.PART.fullmatch(name)}
    if not place.is_empty() and (others - {f'_{LISTING}'} or not place.files()):
        raise FileExistsError(
            f'{place.address} is not empty and holds no results of such a job: name another folder'
        )
    return None


def _is_whole(done: np.ndarray, listing: Listing) -> bool:
    return len(done) == len(listing.ids) and not len(np.setdiff1d(listing.ids, done))


def summarise(place: Place, listing: Listing) -> Summary:
    """Count what is there, and find what is not.

    Raises:
        JobError: A row is there twice, or of no image; or the file of a tar is not there.
    """
    import pyarrow as pa
    from pyarrow import compute

    tars = listing.kind == 'tars'
    images = errors = 0
    examples: list[str] = []
    ids = [np.zeros(0, np.int64)]
    files: list[str] = []
    columns = ['id', 'error', *(['images', 'errors', 'file'] if tars else [])]
    for table in ray_job.done_rows(place, listing.kind, columns):
        ids.append(table.column('id').to_numpy())
        wrong = table.column('error').drop_null()
        errors += len(wrong)
        examples += wrong.slice(0, NAMED - len(examples)).to_pylist()
        if tars:
            images += sum(table.column('images').to_pylist())
            errors += sum(table.column('errors').to_pylist())
            files += table.column('file').to_pylist()
        else:
            images += table.num_rows
    done = np.concatenate(ids)
    missing = np.setdiff1d(listing.ids, done)
    if len(np.unique(done)) != len(done) or len(done) + len(missing) != len(listing.ids):
        raise ray_job.JobError(
            f'{place.address} has {len(done)} rows of {len(listing.ids)} images, some of them '
            'twice: write to another folder'
        )
    folders = {file.rpartition('/')[0] for file in files}
    there = {f'{one}/{name}'.lstrip('/') for one in folders for name in place.files(one)}
    if set(files) - there:
        raise ray_job.JobError(
            f'{place.address} lacks {min(set(files) - there)}, which its ledger names: it was '
            'removed, or a worker wrote it to a disk that is not shared. Write to another folder, '
            'which all machines share'
        )
    named = []
    if len(missing):
        wanted = pa.array(missing[:NAMED])
        for batch in listing_rows(place, f'_{LISTING}'):
            named += batch.filter(compute.is_in(batch['id'], wanted))['path'].to_pylist()
    return Summary(images, errors, tuple(named), len(missing), examples=tuple(examples))
