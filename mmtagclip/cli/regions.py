"""``mmtagclip regions``."""

import argparse
import sys
from pathlib import Path
from typing import Any

from ..clip.downloads import FILES
from ..devices import check_device
from ..extras import require
from ..files import user_path
from ..images import unread_sentence
from .common import (
    OK,
    SOME_UNREADABLE,
    add_command,
    add_images,
    add_reading,
    check_place,
    note,
    shard_of,
)
from .images import input_images

SAM_NAMES = tuple(name.removesuffix(' (sa1b)') for name in FILES)


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        'regions',
        'regions of images by SAM or SAM 2, for segmentation that corrects its labels by them',
        run,
        """\
examples:
  mmtagclip regions photos --out regions --download
  mmtagclip regions photos --out regions --model sam_vit_h --checkpoint sam_vit_h_4b8939.pth
  mmtagclip regions photos --out regions --model hf-hub:facebook/sam2-hiera-large \\
      --points 8 --quality 0.4 --stability 0.4 --single-mask --download""",
    )
    parser.set_defaults(vis=None, sheets=None)
    add_images(parser)
    parser.add_argument(
        '--out',
        required=True,
        metavar='FOLDER',
        help='folder to write FOLDER/regions/ into, one file per image. Run the same command again '
        'to resume',
    )
    parser.add_argument('--overwrite', action='store_true', help='overwrite an existing --out')
    parser.add_argument(
        '--format',
        choices=('png', 'npz'),
        default='png',
        help='PNG of 16 bits, or .npz as CorrCLIP reads it (default: png)',
    )
    parser.add_argument(
        '--model',
        default='sam_vit_b',
        help=f'{", ".join(SAM_NAMES)}, or a SAM 2: local-dir:PATH or hf-hub:ORG/REPO '
        '(default: sam_vit_b)',
    )
    parser.add_argument('--checkpoint', metavar='FILE', help="file of a SAM's weights, Meta's own")
    parser.add_argument(
        '--download',
        action='store_true',
        help='download the weights if they are not on this machine',
    )
    parser.add_argument('--device', help='cpu, cuda:0, ... (default: cuda if available)')
    parser.add_argument(
        '--points',
        type=int,
        default=32,
        metavar='N',
        help='points along each side of the image (default: 32)',
    )
    for option, text in (
        ('quality', 'masks whose IoU the model predicts to be at most this are left out'),
        ('stability', 'least stability of a mask'),
        ('overlap', 'most IoU of the boxes of two masks'),
    ):
        parser.add_argument(
            f'--{option}',
            type=float,
            default=0.7,
            metavar='X',
            help=f'{text}, in [0, 1] (default: 0.7)',
        )
    parser.add_argument(
        '--single-mask', action='store_true', help='one mask per point instead of three; SAM 2 only'
    )
    parser.add_argument(
        '--small-over-large',
        action='store_true',
        help='let small masks hide large ones, instead of large ones small ones, as published',
    )
    parser.add_argument(
        '--shard',
        default='0/1',
        metavar='I/N',
        help='do share I, from 0, of N equal shares of the images; the last to end completes --out',
    )
    add_reading(parser)


def run(args: argparse.Namespace) -> int:
    """``mmtagclip regions``."""
    out = Path(args.out)
    if out.suffix:
        raise ValueError(f'--out must be a folder without an ending, not {args.out}')
    check_place('--out', out)
    index, count = shard_of(args.shard)
    unread: list[Path] = []
    images = input_images(args, unread)
    check_source(args)
    from ..apis.region_run import write_regions

    errors = write_regions(
        source_of(args),
        images,
        out,
        ending=args.format,
        shard=(index, count),
        on_error=args.on_error,
        replace=args.overwrite,
        show_progress=not args.quiet,
    )
    if unread:
        print(f'mmtagclip: {unread_sentence(unread)}', file=sys.stderr)
    if errors is None:
        note(args, f'share {args.shard} is done; others are not yet')
        return OK
    for reason in errors.values():
        print(f'mmtagclip: could not read: {reason}', file=sys.stderr)
    note(args, f'regions of {len(images) - len(errors)} images in {out / "regions"}')
    return SOME_UNREADABLE if errors else OK


def check_source(args: argparse.Namespace) -> None:
    """Refuse options of the model that can't be used, before anything is built.

    Raises:
        FileNotFoundError: There is no such checkpoint.
        ImportError: The model's library is not installed.
        ValueError: The model is unknown, an option is unsupported by it, or the device can't be
            used.
    """
    second = args.model.startswith(('local-dir:', 'hf-hub:'))
    if not second and args.model not in SAM_NAMES:
        raise ValueError(
            f'--model must be {", ".join(SAM_NAMES)}, local-dir:PATH or hf-hub:ORG/REPO, not '
            f'{args.model!r}'
        )
    if second and args.checkpoint is not None:
        raise ValueError('--checkpoint names the weights of a SAM; a SAM 2 has them in its folder')
    if args.single_mask and not second:
        raise ValueError('--single-mask is an option of SAM 2 only')
    if args.checkpoint is not None and not user_path(args.checkpoint).is_file():
        raise FileNotFoundError(f'--checkpoint: there is no file {args.checkpoint}')
    package = 'transformers' if second else 'segment_anything'
    require(package, 'sam', 'mmtagclip regions')
    check_device(args.device)


def source_of(args: argparse.Namespace) -> Any:
    """What finds the regions."""
    import torch

    from ..regions import SAM, SAM2Regions, SAMRegions

    options = {
        'points_per_side': args.points,
        'min_quality': args.quality,
        'min_stability': args.stability,
        'max_overlap': args.overlap,
        'small_over_large': args.small_over_large,
    }
    source: Any
    if args.model in SAM_NAMES:
        pretrained = None if args.checkpoint else 'sa1b'
        sam = SAM(args.model, pretrained, args.checkpoint, download=args.download)
        source = SAMRegions(sam, **options)
    else:
        source = SAM2Regions(
            args.model, single_mask=args.single_mask, download=args.download, **options
        )
    return source.to(args.device or ('cuda' if torch.cuda.is_available() else 'cpu'))
