"""``mmtagclip web``."""

import argparse
import sys
from typing import Any

from ..extras import install
from .common import (
    DEMO,
    OK,
    SEGMENTOR,
    add_command,
    add_model_options,
    add_weights,
    check_model,
    config_of,
)


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        'web',
        'a web page to try a model with',
        run,
        f"""\
examples:
  mmtagclip web
  mmtagclip web --model {SEGMENTOR} --download

It listens on this machine only, unless --host says otherwise. It writes nothing to disk.
It needs: {install('web')}""",
    )
    parser.add_argument(
        '--model',
        default=DEMO['segment'],
        help=f'name of a model (see mmtagclip models) or config (default: {DEMO["segment"]})',
    )
    parser.add_argument(
        '--host',
        default='127.0.0.1',
        metavar='ADDRESS',
        help='address to listen on (default: 127.0.0.1)',
    )
    parser.add_argument('--port', type=int, default=7860, help='default: 7860; 0 for any free one')
    add_model_options(parser)
    add_weights(parser)


def run(args: argparse.Namespace) -> int:
    """``mmtagclip web``."""
    check_model(args)
    if not 0 <= args.port < 65536:
        raise ValueError(f'--port must be in 0 to 65535, not {args.port}')
    try:
        from ..web.server import is_loopback, serve
    except ModuleNotFoundError as error:
        raise ImportError(f'the web page needs {error.name}: {install("web")}') from None
    if not is_loopback(args.host):
        print(
            f'mmtagclip: other machines can reach {args.host}, and so this page',
            file=sys.stderr,
        )
    serve(
        args.model,
        args.host,
        args.port,
        args.device,
        config_of(args),
        args.max_side,
        lambda address: print(f'{args.model} at {address} (Ctrl-C ends it)', flush=True),
        args.weights,
    )
    return OK
