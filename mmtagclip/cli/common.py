"""What the commands have in common: options, checks, messages, exit codes."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..devices import check_device
from ..files import user_path
from ..images import unread_sentence

TAGGER = 'tagclip_vit-base-p16_openai_folder'
SEGMENTOR = 'cls-seg_vit-base-p16_openai_coco-object'
DEMO = {'tag': 'tagclip_demo', 'segment': 'tag-guided_demo'}
# What `mmtagclip demo` shows: title and model.
DEMO_MASKS = {'CLS-SEG': 'cls-seg_demo', 'direct segmentation': 'direct_demo'}
OK, SOME_UNREADABLE, WRONG, CRASHED, INTERRUPTED = 0, 1, 2, 3, 130


def add_command(
    commands: Any, name: str, text: str, run: Callable, epilog: str
) -> argparse.ArgumentParser:
    """A parser for a command of its own help and examples."""
    parser = commands.add_parser(
        name,
        help=text,
        description=f'{text[0].upper()}{text[1:]}.',
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run, command=name, parser=parser)
    return parser


def add_images(parser: argparse.ArgumentParser) -> None:
    """Add the images to run on."""
    parser.add_argument(
        'images',
        nargs='+',
        metavar='IMAGES',
        help='images, folders (every image below them) or quoted patterns',
    )


def add_reading(parser: argparse.ArgumentParser) -> None:
    """Add how images that cannot be read are met, and what is said meanwhile."""
    parser.add_argument(
        '--on-error',
        choices=['skip', 'raise'],
        default='skip',
        help='images that cannot be read: list them at the end, or stop (default: skip)',
    )
    parser.add_argument('--quiet', action='store_true', help='no progress bar and no notes')


def add_weights(parser: argparse.ArgumentParser) -> None:
    """Add --weights."""
    parser.add_argument(
        '--weights',
        metavar='FILE',
        help="what was fitted to images for the model's class names and encoder: the classifier of "
        'tools/train.py (PIAA), or the calibration of mmtagclip calibrate',
    )


MAX_SIDE = "longest side; larger images are shrunk for the encoder (default: the config's)"

EMBEDDED_SIDE = (
    'embed images at their own shape, shrunk to this longest side (default: squeezed to the '
    'size that CLIP was trained with)'
)
CHECKPOINT = "file with the encoder's weights, in place of those that the model names"


def add_model_options(
    parser: argparse.ArgumentParser,
    max_side: str | None = MAX_SIDE,
    checkpoint: str = CHECKPOINT,
) -> None:
    """Add the options of every command that builds a model.

    Args:
        parser: Of the command.
        max_side: Help of --max-side; None for a command without it.
        checkpoint: Help of --checkpoint.
    """
    parser.add_argument(
        '--encoder',
        metavar='NAME[:TAG]',
        help="another CLIP in place of the model's: a name and a tag of open_clip, such as "
        'ViT-B-16-SigLIP2:webli, local-dir:PATH, hf-hub:ORG/REPO, or a model whose files you have, '
        'such as TIPSv2-B-14; layers follow from its depth',
    )
    parser.add_argument(
        '--checkpoint',
        metavar='FILE',
        help=checkpoint,
    )
    parser.add_argument(
        '--download',
        action='store_true',
        help='download the weights if they are not on this machine',
    )
    parser.add_argument('--device', help='cpu, cuda:0, ... (default: cuda if available)')
    if max_side is not None:
        parser.add_argument('--max-side', type=int, metavar='PIXELS', help=max_side)
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='override config entries'
    )


def config_of(args: argparse.Namespace) -> Any:
    """The config that the command line describes.

    Raises:
        FileNotFoundError: The weights are missing, and --download was not given.
    """
    from ..apis.model_zoo import encoder_configs, load_config
    from ..clip.downloads import settle_downloads
    from ..engine.options import CfgOptions

    parser = argparse.ArgumentParser(prog='mmtagclip')
    parser.add_argument('--cfg-options', nargs='+', action=CfgOptions, default={})
    given = parser.parse_args(['--cfg-options', *args.cfg_options] if args.cfg_options else [])
    config = load_config(args.model, given.cfg_options, args.encoder)
    if args.checkpoint is not None:
        encoders, sam3 = encoder_configs(config), config.model.get('sam3')
        if not encoders and sam3 is not None:
            is_folder = user_path(args.checkpoint).is_dir()
            key, place = ('model', 'local-dir:') if is_folder else ('checkpoint', '')
            sam3[key] = f'{place}{args.checkpoint}'
        elif not encoders and args.command not in ('tag', 'segment'):
            raise ValueError(f'--checkpoint names the weights of an encoder; {args.model} has none')
        for encoder in encoders:
            encoder.update(pretrained=None, checkpoint=args.checkpoint)
    settle_downloads(config.model, args.download)
    return config


def weights_of(args: argparse.Namespace, config: Any) -> str | None:
    """The file with what was trained or fitted: --weights, or --checkpoint of a trained model.

    Raises:
        ValueError: A trained model, and both.
    """
    from ..apis.model_zoo import encoder_configs

    has_encoder = encoder_configs(config) or 'sam3' in config.model
    if has_encoder or args.checkpoint is None:
        return args.weights
    if args.weights is not None:
        raise ValueError(f'{args.model} is a trained model: give --checkpoint, without --weights')
    return args.checkpoint


def check_place(argument: str, folder: str | Path) -> None:
    """Refuse a folder that can't be made or written to.

    Raises:
        NotADirectoryError: It, or a folder above it, is a file.
        PermissionError: It is not writable.
    """
    folder = Path(folder).absolute()
    there = next(one for one in (folder, *folder.parents) if one.exists())
    if not there.is_dir():
        raise NotADirectoryError(f'{argument}: {there} is a file, so nothing can be written in it')
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(f'{argument}: {there} is not writable')


def check_new(args: argparse.Namespace, result: Path) -> None:
    """Refuse to replace a finished file without ``--overwrite``.

    Raises:
        FileExistsError: It is there, and not only because a clean-up was interrupted.
    """
    if not result.exists() or args.overwrite:
        return
    from ..jobs.runner import only_clean_up_is_left

    if not only_clean_up_is_left(result):
        raise FileExistsError(f'{result} exists already; add --overwrite to replace it')


def images_beside(args: argparse.Namespace, out: Path) -> tuple[list, list[Path]]:
    """The images to run on, and the files that are not read, without those of a file ``out``.

    Raises:
        FileNotFoundError: There is no image.
    """
    from ..apis.inputs import list_images
    from ..jobs.runner import unfinished

    unread: list[Path] = []
    images = list_images(args.images, unread=unread)
    if not any(Path(image.name).exists() for image in images):
        raise FileNotFoundError(f'no image or folder at {" or ".join(args.images[:3])}')
    work = unfinished(out).resolve()
    paths = [(path, Path(os.path.realpath(path))) for path in unread]  # of links in a circle, too
    return images, [
        path for path, real in paths if real != out.resolve() and not real.is_relative_to(work)
    ]


def check_model(args: argparse.Namespace) -> None:
    """Refuse a model, checkpoint, weights or device that do not exist, and numbers out of range.

    Raises:
        FileNotFoundError: There is no such config, model or file.
        ValueError: A number is below 1, or the device can't be used.
    """
    from ..apis.model_zoo import find_config

    find_config(args.model)
    for option in ('checkpoint', 'weights'):
        path = getattr(args, option, None)
        if path is None or user_path(path).is_file():
            continue
        if option == 'weights' or not user_path(path).is_dir():  # a model may have several files
            raise FileNotFoundError(f'--{option}: there is no file {path}')
    for option in ('batch_size', 'max_side'):
        number = getattr(args, option, None)
        if number is not None and number < 1:
            raise ValueError(f'--{option.replace("_", "-")} must be at least 1, not {number}')
    check_device(args.device)


def shard_of(text: str) -> tuple[int, int]:
    """Index and count of ``I/N``.

    Raises:
        ValueError: It is none.
    """
    index, _, count = text.partition('/')
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise ValueError(f'--shard must be I/N with 0 <= I < N, such as 0/4, not {text!r}')
    return int(index), int(count)


def report(args: argparse.Namespace, errors: Any, unread: list[Path], text: str) -> int:
    """Say what a run could not read and what it made.

    Args:
        args: The command line.
        errors: Why each image could not be read, by its name.
        unread: Files that are not read, of :func:`images_beside`.
        text: What was made.

    Returns:
        The exit code.
    """
    for reason in errors.values():
        print(f'mmtagclip: could not read: {reason}', file=sys.stderr)
    if unread:
        print(f'mmtagclip: {unread_sentence(unread)}', file=sys.stderr)
    note(args, text)
    return SOME_UNREADABLE if errors else OK


def note(args: argparse.Namespace, text: str) -> None:
    """Print a message on standard error, unless --quiet was given."""
    if not args.quiet:
        print(text, file=sys.stderr)
