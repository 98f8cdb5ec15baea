"""``mmtagclip demo``."""

import argparse
from pathlib import Path
from typing import Any

from .common import DEMO, OK, add_command, check_place
from .images import describe

# Scenes that come out right: tools/dev/choose_scenes.py measures all of them.
SCENES = ('000028', '000095', '000040', '000048', '000062', '000108')
CHOSEN = """\
These scenes are among the 22 of 120 that come out right, with thresholds that were chosen on the
demo. demo/README.md has the figures of all scenes. Your own images need a real model:
  mmtagclip tag IMAGES --classes dog,cat --download"""


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
    threshold = segmentor.model.tagger.head.threshold
    for title, inferencer, name in (
        ('tags', tagger, 'tags'),
        ('share of the image', segmentor, 'masks'),
    ):
        print(f'{title}:')
        for result in inferencer.stream(paths, threshold=threshold, vis_dir=Path(args.out, name)):
            print(f'  {Path(result.image).name}: {describe(result)}', flush=True)
    print(f'drawings in {args.out}')
    print(CHOSEN)
    return OK
