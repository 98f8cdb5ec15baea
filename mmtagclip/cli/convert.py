"""``mmtagclip convert``."""

import argparse
from pathlib import Path
from typing import Any

from ..exports import SHAPES, Options, formats, open_results
from .common import OK, add_command, check_place


def add_parser(commands: Any) -> None:
    """Add the command."""
    known = formats()
    listing = '\n'.join(f'  {one.name:13} {one.text}' for one in known.values())
    parser = add_command(
        commands,
        'convert',
        'finished results as files of other tools',
        run,
        f"""\
formats:
{listing}

examples:
  mmtagclip convert masks --to yolo --out yolo
  mmtagclip convert masks --to coco --shapes polygons --out instances.json
  mmtagclip convert tags.jsonl --to xmp --out photos

Run the same command again to complete an interrupted one.""",
    )
    parser.add_argument(
        'results', metavar='RESULTS', help='folder or .jsonl file that tag or segment wrote (--out)'
    )
    parser.add_argument(
        '--to', required=True, choices=list(known), metavar='FORMAT', help='see below'
    )
    parser.add_argument('--out', required=True, metavar='PATH', help='file or folder to write')
    parser.add_argument(
        '--shapes',
        choices=SHAPES,
        help='what masks become: all pixels of a class together, or an outline or a box per '
        "connected region (default: the format's usual one)",
    )
    parser.add_argument(
        '--min-area',
        type=int,
        default=1,
        metavar='PIXELS',
        help='leave smaller regions out of polygons and boxes (default: 1, none)',
    )
    parser.add_argument(
        '--tolerance',
        type=float,
        default=1.0,
        metavar='PIXELS',
        help='how far a polygon may be from the outline; 0 is exact (default: 1)',
    )
    parser.add_argument(
        '--classes',
        help='class names of a .jsonl file, in order, as tag takes them (default: those that '
        'occur, sorted)',
    )
    parser.add_argument(
        '--root', default='.', metavar='DIR', help='folder that relative paths of images start at'
    )
    parser.add_argument(
        '--image-url',
        default=Options.image_url,
        metavar='URL',
        help=f'label-studio: start of the addresses of images (default: {Options.image_url})',
    )
    parser.add_argument('--copy', action='store_true', help='yolo: copy images, not link them')
    parser.add_argument('--overwrite', action='store_true', help='replace existing files')


def run(args: argparse.Namespace) -> int:
    """``mmtagclip convert``."""
    form, out = formats()[args.to], Path(args.out)
    options = Options(
        args.shapes, args.min_area, args.tolerance, args.image_url, args.copy, args.overwrite
    )
    check_place('--out', out.parent if form.suffix else out)
    if form.suffix and out.exists() and not args.overwrite:
        raise FileExistsError(f'{out} exists already; add --overwrite to replace it')
    classes = None
    if args.classes is not None:
        from ..clip import parse_names

        classes = parse_names(args.classes).names
    results = open_results(args.results, classes, args.root)
    form.check(results.kind, out, options)
    form.write(results, out, options)
    bad = results.num_unreadable
    print(
        f'{len(results) - bad} images in {out}{f", {bad} could not be read" if bad else ""}; '
        f'their file names are relative to {results.folder}'
    )
    return OK
