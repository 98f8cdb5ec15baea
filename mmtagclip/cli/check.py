"""``mmtagclip check``."""

import argparse
from typing import Any

from .common import OK, add_command


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        'check',
        'check a folder of results against its digests',
        run,
        """\
examples:
  mmtagclip check masks

Run the same command again to repair what is damaged or missing.""",
    )
    parser.add_argument('folder', metavar='DIR', help='folder that --out or GenerateLoop wrote')


def run(args: argparse.Namespace) -> int:
    """``mmtagclip check``."""
    from ..jobs.runner import Manifest, check_folder

    problems = check_folder(args.folder)
    if problems:
        more = f'\n... and {len(problems) - 20} more' if len(problems) > 20 else ''
        raise ValueError('\n'.join(problems[:20]) + more)
    print(f'{args.folder}: {Manifest.load(args.folder).num_images} images, all as written')
    return OK
