"""``mmtagclip demo``."""

import argparse
from pathlib import Path
from typing import Any

from .common import DEMO, DEMO_MASKS, OK, add_command, check_place
from .images import describe

# Scenes that come out right: tools/dev/choose_scenes.py measures all of them.
SCENES = ('000051', '000077', '000014', '000092', '000086', '000108')
CHOSEN = """\
These scenes are among the 36 of 120 that come out right, with exact tags and good masks.
demo/README.md has the figures of all scenes. Your own images need a real model:
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
    import numpy as np

    from ..apis import SegInferencer, TagInferencer, zoo_root
    from ..files import write_image
    from ..images import read_image
    from ..visualization import contact_sheet, draw_overview, draw_result

    check_place('--out', args.out)
    scenes = zoo_root() / 'demo' / 'data' / 'JPEGImages'
    paths = [scenes / f'{name}.jpg' for name in SCENES]
    tagger = TagInferencer(DEMO['tag'], show_progress=False)
    segmentors = {
        title: SegInferencer(model, show_progress=False) for title, model in DEMO_MASKS.items()
    }
    cells = []
    print('tags:')
    for path in paths:
        (tags,) = tagger(path, score_maps=True)
        masks = {title: segmentor(path)[0] for title, segmentor in segmentors.items()}
        pixels = np.array(read_image(path))
        drawn = draw_overview(pixels, tags, masks)
        write_image(Path(args.out, f'{path.stem}.png'), drawn)
        alone = draw_result(pixels, masks['direct segmentation'], with_legend=False)
        cells.append((alone, f'{path.name}: {", ".join(tags.tags)}'))
        print(f'  {path.name}: {describe(tags)}', flush=True)
    sheet = Path(args.out, 'overview.png')
    write_image(sheet, contact_sheet(cells, columns=3, side=400))
    print(f'tags with heat maps, and masks, of each: {args.out}; all on one page: {sheet}')
    print(CHOSEN)
    return OK
