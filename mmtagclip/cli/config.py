"""``mmtagclip config``."""

import argparse
import shlex
from typing import Any

from ..files import user_path
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
  mmtagclip config tag-guided-naclip vit-base-p16_openai cityscapes > my.py
  mmtagclip config tagclip vit-base-p16_openai photos --labels labels.csv > my.py
  mmtagclip config sclip vit-base-p16_openai photos --labels masks --classes names.txt > my.py""",
    )
    parser.add_argument('method', nargs='?', help='leave it out to list all names')
    parser.add_argument('backbone', nargs='?')
    parser.add_argument(
        'data', nargs='?', metavar='DATASET', help='a data set, or with --labels your own folder'
    )
    parser.add_argument(
        '--labels',
        metavar='PATH',
        help='labels of your own images: a COCO .json, a .csv, a data.yaml of YOLO, a folder of '
        'YOLO labels or masks, or the folder itself, whose folders are the classes',
    )
    parser.add_argument(
        '--classes', help='names of labels that are numbers: separated by commas, or a file'
    )


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
    elif args.labels is not None:
        print(table.text(args.method, args.backbone, own_data(args)), end='')
    elif args.classes is not None:
        raise ValueError('--classes goes with --labels')
    elif user_path(args.data).is_dir() and not table.has_dataset(args.method, args.data):
        raise ValueError(f'{args.data} is a folder: name its labels with --labels')
    else:
        print(table.text(args.method, args.backbone, args.data), end='')
    return OK


def own_data(args: argparse.Namespace) -> Any:
    """The user's own data that the command line describes.

    Raises:
        FileNotFoundError: There is no such folder, or no labels.
        ValueError: The labels are in no known format, or name an image that is not there.
    """
    folder, labels = (user_path(path).absolute() for path in (args.data, args.labels))
    from ..apis.config_table import OwnData
    from ..clip import parse_names
    from ..clip.vocabulary import typed_path
    from ..datasets.own_labels import read_tags

    names = None if args.classes is None else parse_names(args.classes)
    tags = read_tags(folder, labels, names)
    words = ['config', args.method, args.backbone, args.data, '--labels', args.labels]
    if args.classes is not None:
        words += ['--classes', args.classes]
    # A list of names that were typed is written out.
    path = None if args.classes is None else typed_path(args.classes, files=True)
    source = None if path is None else str(path.absolute())
    numbered = names is not None
    return OwnData(str(folder), str(labels), tags.classes, source, numbered, shlex.join(words))
