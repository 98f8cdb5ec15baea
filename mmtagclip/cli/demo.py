"""``mmtagclip demo``."""

import argparse
from pathlib import Path
from typing import Any

from .common import DEMO, OK, add_command, check_place
from .images import describe

SCENES = ('000008', '000011', '000027', '000040', '000045', '000070')


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        'demo',
        'tags and masks of six scenes, with a small bundled model',
        run,
        """\
examples:
  mmtagclip demo
  mmtagclip demo --out somewhere""",
    )
    parser.add_argument(
        '--out',
        default='mmtagclip_demo',
        metavar='DIR',
        help='folder for the drawings (default: mmtagclip_demo)',
    )


def run(args: argparse.Namespace) -> int:
    """``mmtagclip demo``."""
    from ..apis import SegInferencer, TagInferencer, zoo_root

    check_place('--out', args.out)
    scenes = zoo_root() / 'demo' / 'data' / 'JPEGImages'
    paths = [scenes / f'{name}.jpg' for name in SCENES]
    tagger = TagInferencer(DEMO['tag'], show_progress=False)
    segmentor = SegInferencer(DEMO['segment'], show_progress=False)
    for title, inferencer, name in (
        ('tags', tagger, 'tags'),
        ('share of the image', segmentor, 'masks'),
    ):
        print(f'{title}:')
        for result in inferencer.stream(paths, vis_dir=Path(args.out, name)):
            print(f'  {Path(result.image).name}: {describe(result)}', flush=True)
    print(f'drawings in {args.out}')
    return OK
