"""``mmtagclip calibrate``."""

import argparse
import shlex
from pathlib import Path
from typing import Any

from .common import (
    TAGGER,
    add_command,
    add_images,
    add_model_options,
    add_reading,
    add_weights,
    check_model,
    check_new,
    check_place,
    config_of,
    images_beside,
    note,
    report,
    weights_of,
)


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        'calibrate',
        'make the scores of classes comparable, by unlabelled images (SPARC)',
        run,
        """\
examples:
  mmtagclip calibrate photos --classes names.txt --out calibration.pth --download
  mmtagclip calibrate photos --classes names.txt --compound prompts.txt --out calibration.pth
  mmtagclip tag photos --classes names.txt --weights calibration.pth --out tags.jsonl""",
    )
    add_images(parser)
    parser.add_argument(
        '--out',
        required=True,
        metavar='FILE',
        help='.pth file to write, for --weights of mmtagclip tag. Run the same command again to '
        'resume',
    )
    parser.add_argument(
        '--classes', help="the names to calibrate, as for mmtagclip tag (default: the model's)"
    )
    parser.add_argument('--background', help="names that compete with them (default: the model's)")
    parser.add_argument(
        '--compound',
        metavar='FILE',
        help='text file with one prompt per line that names two or more of the classes, such as '
        '"dog on a sofa"',
    )
    parser.add_argument('--overwrite', action='store_true', help='overwrite an existing --out')
    parser.add_argument(
        '--model',
        default=TAGGER,
        help=f'name of a model (see mmtagclip models) or config (default: {TAGGER})',
    )
    add_model_options(parser)
    add_weights(parser)
    parser.add_argument(
        '--batch-size',
        type=int,
        default=1,
        metavar='N',
        help='images per batch (default: 1); those of equal size are encoded together',
    )
    add_reading(parser)


def run(args: argparse.Namespace) -> int:
    """``mmtagclip calibrate``."""
    from ..clip import parse_names

    out = Path(args.out)
    if out.suffix != '.pth':
        raise ValueError(f'--out must end in .pth, not {args.out}')
    check_place('--out', out.parent)
    check_new(args, out)
    images, unread = images_beside(args, out)
    check_model(args)
    names: dict[str, Any] = {
        key: parse_names(getattr(args, key))
        for key in ('classes', 'background')
        if getattr(args, key) is not None
    }
    config = config_of(args)
    from .. import apis
    from ..apis.demo_model import are_demo_scenes, demo_notice

    if apis.inferencer_class(config) is not apis.TagInferencer:
        raise ValueError(f'{args.model} makes masks, not tags: calibrate a model that makes tags')
    inferencer = apis.TagInferencer(
        config, weights_of(args, config), args.device, args.max_side, not args.quiet
    )
    if inferencer.is_demo_model and not are_demo_scenes(images):
        real = shlex.join(['mmtagclip', 'calibrate', *args.images[:3], '--out', args.out])
        note(args, f'mmtagclip: {demo_notice(f"{real} --download")}')
    errors = apis.calibrate(
        inferencer,
        images,
        out,
        **names,
        compound=args.compound,
        batch_size=args.batch_size,
        on_error=args.on_error,
        replace=args.overwrite,
    )
    text = f'calibration by {len(images) - len(errors)} images in {out}'
    return report(args, errors, unread, text)
