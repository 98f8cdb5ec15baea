"""``mmtagclip references``."""

import argparse
from pathlib import Path
from typing import Any

from .common import (
    EMBEDDED_SIDE,
    add_command,
    add_images,
    add_model_options,
    add_reading,
    check_model,
    check_new,
    check_place,
    config_of,
    images_beside,
    report,
)

MODEL = 'configs/_base_/banks/reco.py'


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        'references',
        'what words look like in unlabelled images, for segmentation (ReCo)',
        run,
        """\
examples:
  mmtagclip references photos --classes kayak,paddle --out references.safetensors --download
  mmtagclip references photos --classes names.txt --embeddings photos.safetensors \\
      --out references.safetensors""",
    )
    add_images(parser)
    parser.add_argument(
        '--classes', required=True, help='the words, as for mmtagclip segment; synonyms count, too'
    )
    parser.add_argument(
        '--out',
        required=True,
        metavar='FILE',
        help='.safetensors file to write. Run the same command again to resume',
    )
    parser.add_argument(
        '--embeddings',
        metavar='FILE',
        help='embeddings of the images, of mmtagclip embed; made if it is not there (default: '
        '--out with .embeddings before its ending)',
    )
    parser.add_argument('--overwrite', action='store_true', help='overwrite an existing --out')
    parser.add_argument(
        '--model', help=f'config of a ReferenceEncoder (default: {MODEL}, with CLIP and DINO)'
    )
    add_model_options(parser, EMBEDDED_SIDE)
    add_reading(parser)


def run(args: argparse.Namespace) -> int:
    """``mmtagclip references``."""
    from ..clip import parse_names

    out = Path(args.out)
    if out.suffix != '.safetensors':
        raise ValueError(f'--out must end in .safetensors, not {args.out}')
    check_place('--out', out.parent)
    check_new(args, out)
    if args.embeddings is not None and Path(args.embeddings).suffix not in (
        '.parquet',
        '.safetensors',
    ):
        raise ValueError(f'--embeddings must end in .parquet or .safetensors: {args.embeddings}')
    from ..apis.model_zoo import zoo_root

    args.model = args.model or str(zoo_root() / MODEL)
    images, unread = images_beside(args, out)
    check_model(args)
    classes = parse_names(args.classes)
    from ..apis.banks import load_reference_encoder
    from ..apis.references import build_references

    model = load_reference_encoder(config_of(args), args.device, download=args.download)
    errors = build_references(
        model,
        images,
        out,
        classes,
        embeddings=args.embeddings,
        max_side=args.max_side,
        on_error=args.on_error,
        replace=args.overwrite,
        show_progress=not args.quiet,
    )
    from ..regions.references import ReferenceBank

    text = f'{len(ReferenceBank(out).facts["words"])} references in {out}'
    return report(args, errors, unread, text)
