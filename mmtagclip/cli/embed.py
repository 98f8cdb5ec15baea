"""``mmtagclip embed``."""

import argparse
import shlex
from pathlib import Path
from typing import Any

from ..extras import require
from .common import (
    EMBEDDED_SIDE,
    TAGGER,
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
    report,
)


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        'embed',
        'embeddings of images, to search them by text or for other programs',
        run,
        """\
examples:
  mmtagclip embed photos --out photos.parquet --download
  mmtagclip embed photos --model tagclip_demo --out photos.safetensors --patches""",
    )
    add_images(parser)
    parser.add_argument(
        '--out',
        required=True,
        metavar='FILE',
        help='.parquet or .safetensors file to write. Run the same command again to resume',
    )
    parser.add_argument(
        '--patches', action='store_true', help='write the features of all patches, too'
    )
    parser.add_argument('--overwrite', action='store_true', help='overwrite an existing --out')
    parser.add_argument(
        '--model',
        default=TAGGER,
        help=f'model whose encoder is used (see mmtagclip models) or config (default: {TAGGER})',
    )
    add_model_options(parser, EMBEDDED_SIDE)
    parser.add_argument(
        '--batch-size',
        type=int,
        default=8,
        metavar='N',
        help='images that are embedded together (default: 8)',
    )
    add_reading(parser)


def run(args: argparse.Namespace) -> int:
    """``mmtagclip embed``."""
    out = Path(args.out)
    if out.suffix not in ('.parquet', '.safetensors'):
        raise ValueError(f'--out must end in .parquet or .safetensors, not {args.out}')
    check_place('--out', out.parent)
    check_new(args, out)
    images, unread = images_beside(args, out)
    check_model(args)
    if out.suffix == '.parquet':
        require('pyarrow', 'parquet', 'parquet')
    from ..apis.demo_model import are_demo_scenes, demo_notice, is_demo_model
    from ..apis.embedding import Embedder, embed_images

    embedder = Embedder(config_of(args), args.device, args.max_side)
    embedder.name = args.model
    embedder.warns = False
    if is_demo_model(embedder) and not are_demo_scenes(images):
        real = shlex.join(['mmtagclip', 'embed', *args.images[:3], '--out', args.out, '--download'])
        note(args, f'mmtagclip: {demo_notice(real)}')
    errors = embed_images(
        embedder,
        images,
        out,
        patches=args.patches,
        batch_size=args.batch_size,
        on_error=args.on_error,
        replace=args.overwrite,
        show_progress=not args.quiet,
    )
    text = f'embeddings of {len(images) - len(errors)} images in {out}'
    return report(args, errors, unread, text)
