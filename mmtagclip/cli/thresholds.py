"""``mmtagclip thresholds``."""

import argparse
import sys
from pathlib import Path
from typing import Any

from .common import OK, add_command, check_place


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        'thresholds',
        'a threshold for each class, from a few dozen images whose tags are known',
        run,
        """\
examples:
  mmtagclip tag photos --classes names.txt --all-scores --out tags.jsonl
  mmtagclip thresholds tags.jsonl --plot scores.png
  cp tags.jsonl corrected.jsonl  # and correct the "tags" of some dozen lines, remove the others
  mmtagclip thresholds tags.jsonl --labels corrected.jsonl --out thresholds.csv
  mmtagclip thresholds tags.jsonl --labels coco.json --images photos --precision 0.9 \\
    --out thresholds.csv
  mmtagclip tag photos --classes names.txt --thresholds thresholds.csv --out better.jsonl""",
    )
    parser.add_argument(
        'scores', metavar='FILE', help='results of mmtagclip tag with --all-scores (.jsonl)'
    )
    parser.add_argument(
        '--labels',
        metavar='FILE',
        help='the true tags of some of the images: results (.jsonl) that were corrected by hand, '
        'or COCO, a table or YOLO labels, see --images',
    )
    parser.add_argument(
        '--images', metavar='DIR', help='folder of the images, for labels that are no .jsonl file'
    )
    parser.add_argument(
        '--precision',
        type=float,
        metavar='P',
        help='the lowest threshold whose tags are right at least so often, in (0, 1] (default: '
        'the threshold of the best F1)',
    )
    parser.add_argument(
        '--relative',
        action='store_true',
        help="thresholds as shares of the range of an image's scores, as --threshold of mmtagclip "
        'tag (default: of the score itself)',
    )
    parser.add_argument('--out', metavar='FILE', help='.csv file to write; needs --labels')
    parser.add_argument(
        '--plot', metavar='FILE', help='.png file to write: how the scores of each class spread'
    )
    parser.add_argument('--overwrite', action='store_true', help='replace existing files')


def run(args: argparse.Namespace) -> int:
    """``mmtagclip thresholds``."""
    for option, ending in (('out', '.csv'), ('plot', '.png')):
        path = getattr(args, option)
        if path is None:
            continue
        if Path(path).suffix != ending:
            raise ValueError(f'--{option} must end in {ending}, not {path}')
        check_place(f'--{option}', Path(path).parent)
        if Path(path).exists() and not args.overwrite:
            raise FileExistsError(f'{path} exists already; add --overwrite to replace it')
    if args.labels is None and (args.out is not None or args.plot is None):
        raise ValueError(
            'thresholds follow from images whose tags are known: give --labels FILE; without it, '
            '--plot FILE shows how the scores spread'
        )
    if args.precision is not None and not 0 < args.precision <= 1:
        raise ValueError(f'--precision must be in (0, 1], not {args.precision}')
    from ..apis.thresholds import choose_thresholds, read_labels, read_scores, write_thresholds

    table = read_scores(args.scores)
    if args.relative:
        table = table.relative()
    found, shown, positives = None, table.scores, None
    if args.labels is not None:
        places, labels, known = read_labels(table, args.labels, args.images)
        found = choose_thresholds(table, places, labels, known, args.precision)
        shown, positives = table.scores[places], labels
        kind = 'relative' if args.relative else 'absolute'
        if args.out is not None:
            write_thresholds(args.out, found, kind)
        _say(found, len(places), kind)
    if args.plot is not None:
        from ..files import write_whole
        from ..visualization.score_figure import draw_scores

        limits = None if found is None else [one.threshold for one in found]
        title = f'{len(shown)} images' + ('' if found is None else '; points show the class')
        write_whole(args.plot, draw_scores(table.classes, shown, positives, limits, title))
    return OK


def _say(found: Any, images: int, kind: str) -> None:
    """Print one line per class that the labels show, and what the intervals are."""
    print(f'{kind} thresholds by {images} labelled images; in brackets: exact binomial 95 %')
    for one in found:
        if one.threshold is None:
            continue
        shares = [
            f'{name} -' if value is None else f'{name} {value:.2f} [{low:.2f}, {high:.2f}]'
            for name, value, (low, high) in (
                ('precision', one.precision, one.precision_interval),
                ('recall', one.recall, one.recall_interval),
            )
        ]
        note = f'  ({one.note})' if one.note else ''
        print(f'{one.tag}: {one.threshold:.3f}  {"  ".join(shares)}{note}')
    left = [one.tag for one in found if one.threshold is None]
    if left:
        print(
            f'mmtagclip: {len(left)} classes are in no labelled image and get no threshold: '
            f'{", ".join(left[:5])}{"..." if len(left) > 5 else ""}',
            file=sys.stderr,
        )
