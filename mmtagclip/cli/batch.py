"""``mmtagclip list``, and ``tag`` and ``segment`` of listings, stores and many machines."""

import argparse
import os
import sys
from typing import Any

from ..extras import require
from .common import OK, SOME_UNREADABLE, add_command, check_place, note

# Options of tag and segment that have no meaning without an engine, and their defaults.
NEED_ENGINE = {
    'plan': False,
    'workers': None,
    'gpus_per_worker': None,
    'address': 'local',
    'rows_per_file': 10_000,
}
# The same, of those that have none for a folder of Parquet files.
REFUSED = {'vis': None, 'sheets': None, 'overwrite': False, 'on_error': 'skip'}


def add_parser(commands: Any) -> None:
    """Add ``mmtagclip list``."""
    parser = add_command(
        commands,
        'list',
        'a listing of images or tars, for jobs on many machines',
        run,
        """\
examples:
  mmtagclip list s3://bucket/photos --out s3://bucket/listing
  mmtagclip list photos.csv --column file --out listing""",
    )
    parser.add_argument(
        'images',
        nargs='+',
        metavar='SOURCE',
        help='folders, lists (.txt, .csv, .parquet), images or tars; paths, or addresses such as '
        's3://bucket/photos',
    )
    parser.add_argument(
        '--out', required=True, metavar='DIR', help='folder, or its address, for listing.parquet'
    )
    _add_column(parser)
    parser.add_argument('--quiet', action='store_true', help='no notes')


def _add_column(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--column',
        default='path',
        metavar='NAME',
        help='column of the paths in a list (default: path); its column "id", if there is one, '
        'is kept',
    )


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Add the options of jobs on many machines."""
    group = parser.add_argument_group(
        'many machines',
        'IMAGES are then folders, lists (.txt, .csv, .parquet) or tars, here or in a store such '
        'as s3://',
    )
    group.add_argument(
        '--engine',
        choices=['ray'],
        help='compute on Ray; --out is a folder, or its address, for Parquet files',
    )
    group.add_argument(
        '--address',
        default='local',
        help='Ray cluster: auto, HOST:PORT, or local to start Ray on this machine (default)',
    )
    group.add_argument(
        '--workers', type=int, metavar='N', help='processes that compute (default: all that fit)'
    )
    group.add_argument(
        '--gpus-per-worker',
        type=float,
        metavar='G',
        help='GPUs of each, such as 0.5 (default: 1, or 0 where there are none)',
    )
    group.add_argument(
        '--rows-per-file',
        type=int,
        default=10_000,
        metavar='N',
        help='most rows of a file; a killed worker loses at most one file (default: 10000)',
    )
    group.add_argument(
        '--plan', action='store_true', help='try 200 images and print what all would cost'
    )
    _add_column(group)  # type: ignore[arg-type]


def is_job(args: argparse.Namespace) -> bool:
    """Whether a command line is for :mod:`mmtagclip.batch`: by its engine, or what it reads.

    Raises:
        ValueError: An option that needs an engine, without one.
    """
    if getattr(args, 'engine', None) is not None:
        return True
    for option, default in NEED_ENGINE.items():
        if getattr(args, option) != default:
            raise ValueError(f'--{option.replace("_", "-")} needs --engine ray')
    from ..batch.listing import is_list, is_tar
    from ..batch.places import is_address

    found = [one for one in args.images if is_address(one) or is_list(one) or is_tar(one)]
    stored = args.out is not None and is_address(args.out)
    if not found and args.column != 'path':
        raise ValueError('--column names a column of a list, and there is no list')
    if not found and not stored:
        return False
    if args.out is None or not args.out.endswith('.parquet'):
        raise ValueError(
            f'{found[0] if found else args.out}: lists, tars and stores need --out x.parquet or '
            '--engine ray; otherwise nothing is downloaded'
        )
    return True


def check_job(args: argparse.Namespace) -> None:
    """Refuse a command line that is no job of :mod:`mmtagclip.batch`.

    Raises:
        ImportError: Ray or pyarrow is not installed.
        ValueError: An option is missing, out of range or does not fit.
    """
    require('pyarrow', 'ray' if args.engine else 'parquet', 'a table of results')
    if args.engine:
        require('ray', 'ray', '--engine ray')
    for option, default in REFUSED.items():
        if getattr(args, option) != default:
            words = f'--{option.replace("_", "-")}'
            raise ValueError(f'{words} does not go with lists, stores and --engine: leave it out')
    if args.engine and args.device is not None:
        raise ValueError('--engine chooses the device by --gpus-per-worker: leave --device out')
    from ..batch.checks import check_counts

    check_counts(**{'--rows-per-file': args.rows_per_file, '--workers': args.workers})
    if args.gpus_per_worker is not None and args.gpus_per_worker < 0:
        raise ValueError(f'--gpus-per-worker must be at least 0, not {args.gpus_per_worker}')
    if args.engine and not args.plan and args.out in (None, '-'):
        raise ValueError('--engine ray writes a folder of Parquet files: name it with --out')
    if args.out in (None, '-'):
        return
    _check_folder(args.out if args.engine else os.path.dirname(args.out))
    if not args.engine:
        from ..batch.fetch import is_there

        if is_there(args.out):
            raise FileExistsError(f'{args.out} exists already: remove it, or name another file')


def _check_folder(out: str) -> None:
    """Refuse a folder of this machine that can't be made or written to."""
    from ..batch.places import absolute, is_address

    if not is_address(out):
        check_place('--out', absolute(out))


def run_job(args: argparse.Namespace, config: Any, options: dict[str, Any]) -> int:
    """Compute what a command line describes.

    Args:
        args: The command line.
        config: Of the model.
        options: Of the inferencer's call.
    """
    from .. import batch
    from .common import weights_of

    options = {key: one for key, one in options.items() if key not in ('on_error', 'vis_dir')}
    settings = {
        'model': config,
        'weights': weights_of(args, config),
        'max_side': args.max_side,
        'trust_checkpoint': args.trust_checkpoint,
        'batch_size': args.batch_size,
        **options,
    }
    if not args.engine:
        settings['device'] = args.device
    if args.plan:
        workers = {} if args.workers is None else {'workers': args.workers}
        print(
            batch.plan(
                args.images,
                rows_per_file=args.rows_per_file,
                column=args.column,
                **workers,
                **settings,
            )
        )
        return OK
    summary = batch.run(
        args.images,
        args.out,
        engine=args.engine,
        address=args.address,
        workers=args.workers,
        gpus_per_worker=args.gpus_per_worker,
        rows_per_file=args.rows_per_file,
        column=args.column,
        quiet=args.quiet,
        **settings,
    )
    if summary.listed:
        note(args, summary.listed)
    note(args, f'{summary} in {args.out}')
    _tell(summary.examples, summary.errors, 'could not be read')
    _tell(summary.missing, summary.num_missing, 'have no row: run the same command again')
    if summary.num_missing and summary.reason:
        print(f'mmtagclip: the last error of a worker: {summary.reason}', file=sys.stderr)
    if summary.unread:
        print(f'mmtagclip: {summary.unread}', file=sys.stderr)
    return SOME_UNREADABLE if summary.errors or summary.num_missing else OK


def _tell(examples: tuple[str, ...], count: int, what: str) -> None:
    for text in examples:
        print(f'mmtagclip: {what}: {text}', file=sys.stderr)
    if count > len(examples):
        print(f'mmtagclip: {what}: {count - len(examples)} more', file=sys.stderr)


def run(args: argparse.Namespace) -> int:
    """``mmtagclip list``."""
    require('pyarrow', 'parquet', 'mmtagclip list')
    from ..batch.listing import LISTING, make_listing
    from ..batch.places import Place

    _check_folder(args.out)
    place = Place(args.out)
    if place.read(LISTING) is not None:
        raise FileExistsError(f'{place.address}/{LISTING} exists already: name another folder')
    listing = make_listing(args.images, place, args.column)
    note(args, f'{len(listing.ids)} {listing.kind} in {place.address}/{LISTING}')
    if listing.unread:
        print(f'mmtagclip: {listing.unread}', file=sys.stderr)
    return OK
