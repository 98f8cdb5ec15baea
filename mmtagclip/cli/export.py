"""``mmtagclip export``."""

import argparse
from pathlib import Path
from typing import Any

from ..extras import install
from .common import OK, TAGGER, add_command, add_model_options, check_model, check_place, config_of


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        'export',
        "a model's dense encoder as ONNX",
        run,
        f"""\
examples:
  mmtagclip export encoder.onnx --model tagclip_demo
  mmtagclip export encoder.onnx --checkpoint ViT-B-16.pt --layers 8 9 10

It needs: {install('onnx')}""",
    )
    parser.add_argument('out', metavar='FILE', help='the .onnx file to write')
    parser.add_argument(
        '--layers',
        type=int,
        nargs='+',
        metavar='L',
        help='layers, from 0, whose mean attention map is an output (default: those of the '
        "model's DMAR)",
    )
    parser.add_argument(
        '--model',
        default=TAGGER,
        help=f'name of a model (see mmtagclip models) or config (default: {TAGGER})',
    )
    add_model_options(parser)


def run(args: argparse.Namespace) -> int:
    """``mmtagclip export``."""
    if Path(args.out).suffix != '.onnx':
        raise ValueError(f'the file must end in .onnx, not {args.out}')
    check_place('FILE', Path(args.out).parent)
    check_model(args)
    from ..apis import inferencer_class
    from ..clip.onnx import export_onnx

    config = config_of(args)
    model = inferencer_class(config)(config, device=args.device).model
    tagger = getattr(model, 'tagger', model)
    groups = () if tagger is None else tagger.head.attention_layers
    layers = args.layers or [layer for group in groups for layer in group]
    if not layers:
        raise ValueError(f'{args.model} uses no attention maps: name the --layers to export')
    export_onnx(model.encoder, args.out, layers)
    print(
        f'{args.out}: patches, class_token, attention (mean of layers '
        f'{", ".join(map(str, sorted(set(layers))))}), votes'
    )
    return OK
