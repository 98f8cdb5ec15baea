"""The command ``mmtagclip``: a module for each of its commands.

Exit codes: 0, done; 1, done, but some images could not be read; 2, wrong usage or input;
3, a bug of mmtagclip; 130, interrupted.

Heavy modules are imported where they are needed, after the arguments were checked: --help and
refusals are quick.
"""

import argparse
import gc
import io
import os
import re
import sys
import traceback
import warnings
from collections.abc import Sequence
from difflib import get_close_matches

from .. import lazy
from ..version import __version__
from . import (
    bank,
    batch,
    calibrate,
    check,
    config,
    convert,
    demo,
    embed,
    export,
    images,
    models,
    references,
    regions,
    search,
    thresholds,
    web,
)
from .common import CRASHED, INTERRUPTED, OK, SOME_UNREADABLE, WRONG

__all__ = ['CRASHED', 'INTERRUPTED', 'OK', 'SOME_UNREADABLE', 'WRONG', 'main', 'make_parser']


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Those of the command line if None.

    Returns:
        The exit code.
    """
    # A name that the stream's code page lacks is printed escaped; it does not end the run.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors='backslashreplace')
    parser = make_parser()
    args, extra = parser.parse_known_args(arguments)
    if extra:
        from ..apis.call import usual_name

        hint = (
            '; names are separated by commas, with quotes around "traffic light"'
            if getattr(args, 'classes', None) or getattr(args, 'background', None)
            else ''
        )
        known = re.findall(r'--[a-z-]+', args.parser.format_usage())
        meant = f'--{usual_name(extra[0])}'.replace('_', '-')
        near = [meant] if meant in known else get_close_matches(extra[0], known, 1)
        hint = f'; did you mean {near[0]}?' if near else hint
        args.parser.error(f'unrecognized arguments: {" ".join(extra)}{hint}')
    lazy.ours = arguments is None
    warnings.filterwarnings('ignore', module='mmcv|mmengine|mmseg|mmpretrain')
    try:
        code = args.run(args)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print('mmtagclip: interrupted', file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still held
        return OK
    except Exception as error:
        text = _sentence(error)
        if text is not None:
            print(f'mmtagclip: error: {text}', file=sys.stderr)
            return WRONG
        traceback.print_exc()
        print(
            'mmtagclip: this is a bug of mmtagclip: please report it with the lines above',
            file=sys.stderr,
        )
        return CRASHED
    finally:
        if arguments is None:  # the program ends here: nobody needs a last look at every object
            gc.freeze()


def _sentence(error: Exception) -> str | None:
    """What to say of an error of usage, input or this machine; None if it is a bug."""
    text = str(error)
    of_torch = type(error).__name__ == 'OutOfMemoryError' or 'DefaultCPUAllocator' in text
    if isinstance(error, MemoryError) or of_torch:
        return 'out of memory: try a smaller --batch-size or --max-side'
    if isinstance(error, OSError) and error.filename is not None:
        return f'{error.filename}: {error.strerror}'
    return text if isinstance(error, ValueError | TypeError | OSError | ImportError) else None


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(
        prog='mmtagclip',
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description='Find what is in images, and where, without training on labels.',
        epilog="""\
examples:
  mmtagclip demo
  mmtagclip tag photos --classes dog,cat,"traffic light" --out tags.jsonl --download
  mmtagclip segment 'photos/*.jpg' --classes names.txt --out masks --vis pictures
  mmtagclip models

exit codes: 0 done; 1 done, but some images could not be read; 2 wrong usage or input;
3 a bug of mmtagclip; 130 interrupted""",
    )
    parser.add_argument('--version', action='version', version=f'mmtagclip {__version__}')
    commands = parser.add_subparsers(metavar='COMMAND', required=True)
    for command in (
        images, batch, calibrate, thresholds, regions, bank, references, convert, embed, search,
        models, config, demo, web, export, check,
    ):  # fmt: skip
        command.add_parser(commands)
    return parser
