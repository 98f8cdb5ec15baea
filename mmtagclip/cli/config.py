"""``mmtagclip config``."""

import argparse
from typing import Any

from .common import OK, add_command


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        'config',
        'a config for any method, backbone and data set',
        run,
        """\
examples:
  mmtagclip config
  mmtagclip config sclip vit-large-p14_openai voc21 > my.py
  mmtagclip config tag-guided-naclip vit-base-p16_openai cityscapes > my.py""",
    )
    parser.add_argument('method', nargs='?', help='leave it out to list all names')
    parser.add_argument('backbone', nargs='?')
    parser.add_argument('data', nargs='?', metavar='DATASET')


def run(args: argparse.Namespace) -> int:
    """``mmtagclip config``."""
    from ..apis.config_table import ConfigTable

    table = ConfigTable()
    if args.method is None:
        print(table.listing())
    elif args.data is None:
        raise ValueError(
            "give a method, a backbone and a data set ('mmtagclip config sclip "
            "vit-base-p16_openai voc21'), or nothing for a list"
        )
    else:
        print(table.text(args.method, args.backbone, args.data), end='')
    return OK
