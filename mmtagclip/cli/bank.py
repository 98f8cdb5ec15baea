"""``mmtagclip bank``."""

import argparse
import sys
from pathlib import Path
from typing import Any

from ..images import unread_sentence
from .common import (
    OK,
    SOME_UNREADABLE,
    add_command,
    add_images,
    add_model_options,
    add_reading,
    check_model,
    check_new,
    check_place,
    config_of,
    images_beside,
    note,
    shard_of,
)

MODEL = 'configs/_base_/banks/corrclip.py'


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        'bank',
        'a memory bank of the regions of unlabelled images, for segmentation',
        run,
        """\
examples:
  mmtagclip bank photos --regions regions --out photos.safetensors --download
  mmtagclip bank photos --regions regions --out photos.safetensors --shard 0/2""",
    )
    add_images(parser)
    parser.add_argument(
        '--regions',
        required=True,
        metavar='PATH',
        help='regions of the images: a folder with an .npz or .png file per image, or a COCO file',
    )
    parser.add_argument(
        '--out',
        required=True,
        metavar='FILE',
        help='.safetensors file to write. Run the same command again to resume',
    )
    parser.add_argument(
        '--unsegmented',
        type=int,
        default=0,
        metavar='ID',
        help='id in the files of pixels that belong to no region (default: 0)',
    )
    parser.add_argument(
        '--dtype',
        choices=['float16', 'float32'],
        default='float16',
        help='of the stored numbers (default: float16)',
    )
    parser.add_argument(
        '--shard',
        default='0/1',
        metavar='I/N',
        help='do share I, from 0, of N equal shares of the images; the last to end writes --out',
    )
    parser.add_argument(
        '--faiss',
        action='store_true',
        help="make FAISS's index, too; if --out is there, only the index",
    )
    parser.add_argument('--overwrite', action='store_true', help='overwrite an existing --out')
    parser.add_argument(
        '--model',
        help=f'config of a RegionEncoder (default: {MODEL}, with MetaCLIP, DINO and RADIO)',
    )
    add_model_options(parser, max_side=None)
    add_reading(parser)


def run(args: argparse.Namespace) -> int:
    """``mmtagclip bank``."""
    from ..extras import require

    out = Path(args.out)
    if out.suffix != '.safetensors':
        raise ValueError(f'--out must end in .safetensors, not {args.out}')
    shard = shard_of(args.shard)
    if args.overwrite and shard != (0, 1):
        raise ValueError('--overwrite does not go with --shard: remove the file first')
    if args.faiss:
        require('faiss', 'faiss', '--faiss')
    check_place('--out', out.parent)
    try:
        check_new(args, out)
    except FileExistsError:
        if not args.faiss:
            raise
        return _add_index(args, out)
    if not Path(args.regions).exists():
        raise FileNotFoundError(
            f'--regions: there is nothing at {args.regions}; mmtagclip regions makes such files'
        )
    from ..apis.model_zoo import zoo_root

    args.model = args.model or str(zoo_root() / MODEL)
    images, unread = images_beside(args, out)
    check_model(args)
    from ..apis.banks import build_bank, load_region_encoder

    model = load_region_encoder(config_of(args), args.device, download=args.download)
    errors = build_bank(
        model,
        images,
        args.regions,
        out,
        dtype=args.dtype,
        unsegmented=args.unsegmented,
        shard=shard,
        on_error=args.on_error,
        replace=args.overwrite,
        show_progress=not args.quiet,
    )
    if errors is None:
        note(args, f'share {args.shard} is done; others are not yet')
        return OK
    for reason in errors.values():
        print(f'mmtagclip: left out: {reason}', file=sys.stderr)
    if unread:
        print(f'mmtagclip: {unread_sentence(unread)}', file=sys.stderr)
    from ..regions.bank import MemoryBank

    bank = MemoryBank(out)
    note(args, f'{len(bank)} regions of {len(bank.images)} images in {out}')
    if args.faiss:
        _add_index(args, out)
    return SOME_UNREADABLE if errors else OK


def _add_index(args: argparse.Namespace, out: Path) -> int:
    from ..regions.bank import MemoryBank

    note(args, f'index in {MemoryBank(out).add_index()}')
    return OK
