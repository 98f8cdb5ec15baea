"""``mmtagclip search``."""

import argparse
import csv
import io
import json
import shlex
import sys
from pathlib import Path
from typing import Any

from .common import OK, add_command, add_model_options, check_model, check_place, config_of


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        'search',
        'find images by a text or an image, in a file of mmtagclip embed',
        run,
        """\
examples:
  mmtagclip search "a dog on a beach" --in photos.parquet
  mmtagclip search --image beach.jpg --in photos.parquet --top 50 --out found.csv""",
    )
    parser.add_argument('text', nargs='?', metavar='TEXT', help='what to find, in words')
    parser.add_argument('--image', metavar='FILE', help='an image to find similar ones of')
    parser.add_argument(
        '--in', dest='file', required=True, metavar='FILE', help='the file of embeddings'
    )
    parser.add_argument('--top', type=int, default=10, metavar='N', help='how many (default: 10)')
    parser.add_argument('--out', metavar='FILE', help='.json or .csv file to write')
    parser.add_argument(
        '--model', help='the model that made the file (default: the bundled model that it names)'
    )
    add_model_options(parser, max_side=None)


def run(args: argparse.Namespace) -> int:
    """``mmtagclip search``."""
    if (args.text is None) == (args.image is None):
        raise ValueError('give a text or --image FILE, one of them')
    if args.top < 1:
        raise ValueError(f'--top must be at least 1, not {args.top}')
    if args.out is not None:
        if Path(args.out).suffix not in ('.json', '.csv'):
            raise ValueError(f'--out must end in .json or .csv, not {args.out}')
        check_place('--out', Path(args.out).parent)
    from ..images import read_image

    pixels = None if args.image is None else read_image(args.image)
    from ..apis.demo_model import are_demo_scenes, demo_notice, is_demo_model
    from ..apis.embedding import Embedder, EmbeddingFile, search
    from ..apis.inputs import ImageInput

    file = EmbeddingFile(args.file)
    if args.model is None:
        args.model = file.bundled_model()
    check_model(args)
    embedder = Embedder(config_of(args), args.device, file.facts['max_side'])
    file.check(embedder)
    embedder.warns = False
    asked = [] if args.image is None else [ImageInput(args.image, Path(args.image))]
    if is_demo_model(embedder) and not are_demo_scenes(asked):
        real = shlex.join(['mmtagclip', 'embed', 'IMAGES', '--out', args.file, '--download'])
        print(f'mmtagclip: {demo_notice(real)}', file=sys.stderr)
    query = embedder.text(args.text) if pixels is None else embedder.images([pixels])[0]
    found = search(query, file.batches(), args.top)
    if args.out is None:
        for image, score in found:
            print(f'{score:.3f}  {image}')
        return OK
    from ..files import write_whole

    if Path(args.out).suffix == '.json':
        rows = [{'image': image, 'score': score} for image, score in found]
        text = json.dumps(rows, ensure_ascii=False, indent=2) + '\n'
    else:
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator='\n').writerows([('image', 'score'), *found])
        text = buffer.getvalue()
    write_whole(args.out, text.encode())
    return OK
