"""The command ``mmtagclip``.

Exit codes: 0, done; 1, done, but some images could not be read; 2, wrong usage or input;
3, a bug of mmtagclip; 130, interrupted.
"""

import argparse
import codecs
import io
import json
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .files import user_path
from .version import __version__

# Heavy modules are imported where they are needed, after the arguments were checked: --help and
# refusals are quick.

TAGGER = 'tagclip_vit-base-p16_openai_folder'
SEGMENTOR = 'cls-seg_vit-base-p16_openai_coco-object'
DEMO = {'tag': 'tagclip_demo', 'segment': 'cls-seg_demo'}
DEMO_SCENES = ('000008', '000011', '000027', '000040', '000045', '000070')
OK, SOME_UNREADABLE, WRONG, CRASHED, INTERRUPTED = 0, 1, 2, 3, 130


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
        hint = (
            '; names are separated by commas, with quotes around "traffic light"'
            if getattr(args, 'classes', None) or getattr(args, 'background', None)
            else ''
        )
        parser.error(f'unrecognized arguments: {" ".join(extra)}{hint}')
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


def _sentence(error: Exception) -> str | None:
    """What to say of an error of usage, input or this machine; None if it is a bug."""
    text = str(error)
    if isinstance(error, OSError | RuntimeError) and text.startswith('Failed to download'):
        return f'{text} Or fetch the weights elsewhere, and name the file with --checkpoint'
    if isinstance(error, MemoryError) or type(error).__name__ == 'OutOfMemoryError':  # torch's
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
  mmtagclip tag photos --classes dog,cat,"traffic light" --out tags.jsonl --vis pictures
  mmtagclip segment photos/*.jpg --classes names.txt --out masks
  mmtagclip models

exit codes: 0 done; 1 done, but some images could not be read; 2 wrong usage or input;
3 a bug of mmtagclip; 130 interrupted""",
    )
    parser.add_argument('--version', action='version', version=f'mmtagclip {__version__}')
    commands = parser.add_subparsers(metavar='COMMAND', required=True)
    _add_images(
        commands,
        'tag',
        TAGGER,
        'tags of images',
        run_images,
        """\
examples:
  mmtagclip tag photo.jpg --classes dog,cat,"traffic light"
  mmtagclip tag photos --classes names.txt --background sky,grass,road --out tags.csv
  mmtagclip tag photos --model tagclip_demo --out tags.jsonl --vis pictures --sheets pages
  mmtagclip tag 'photos/**/*.png' --checkpoint ViT-B-16.pt --out coco.json""",
    )
    _add_images(
        commands,
        'segment',
        SEGMENTOR,
        'masks of images',
        run_images,
        """\
examples:
  mmtagclip segment photo.jpg --classes dog,cat --vis pictures
  mmtagclip segment photos --classes names.txt --out masks
  mmtagclip segment photos --model cls-seg_demo --out coco.json""",
    )
    _add_models(commands)
    _add_config(commands)
    _add_demo(commands)
    _add_web(commands)
    _add_export(commands)
    _add_check(commands)
    return parser


def _add_command(
    commands: Any, name: str, text: str, run: Callable, epilog: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=text,
        description=f'{text[0].upper()}{text[1:]}.',
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run, command=name)
    return parser


def _add_images(
    commands: Any, name: str, model: str, text: str, run: Callable, epilog: str
) -> None:
    parser = _add_command(commands, name, text, run, epilog)
    parser.add_argument(
        'images',
        nargs='+',
        metavar='IMAGES',
        help='images, folders (every image below them) or quoted patterns',
    )
    parser.add_argument(
        '--classes',
        help='what to find: names separated by commas, a file with '
        "one per line, or a built-in list such as coco (default: the model's)",
    )
    parser.add_argument(
        '--background',
        help='other things in the images, never reported as tags; given as --classes '
        "(default: the model's)",
    )
    parser.add_argument(
        '--threshold',
        type=float,
        metavar='K',
        help="tag threshold in [0, 1] of the range of an image's scores: a tag scores above "
        "min + K * (max - min) (default: the model's, usually 0.5)",
    )
    out = (
        'file to write: .jsonl (one line per image), .csv (one row per tag), .json (COCO format), '
        'or - for JSON lines on standard output'
    )
    if name == 'segment':
        out = 'folder for masks (index PNGs) and labels.jsonl, to train on; or a ' + out
    parser.add_argument('--out', help=f'{out}. Run the same command again to resume')
    parser.add_argument('--vis', metavar='DIR', help='folder for a drawing of each result')
    parser.add_argument('--sheets', metavar='DIR', help='folder for contact sheets')
    parser.add_argument('--overwrite', action='store_true', help='overwrite an existing --out')
    parser.add_argument(
        '--model',
        default=model,
        help=f'name of a model (see mmtagclip models) or config (default: {model})',
    )
    _add_model_options(parser)
    _add_weights(parser)
    parser.add_argument(
        '--batch-size',
        type=int,
        default=1,
        metavar='N',
        help='images per batch (default: 1); those of equal size are encoded together',
    )
    parser.add_argument(
        '--on-error',
        choices=['skip', 'raise'],
        default='skip',
        help='images that cannot be read: list them at the end, or stop (default: skip)',
    )
    parser.add_argument('--quiet', action='store_true', help='no progress bar')


def _add_weights(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--weights',
        metavar='FILE',
        help="classifier that tools/train.py fitted to images (PIAA) for the model's class names "
        'and encoder',
    )


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--checkpoint',
        metavar='FILE',
        help="file with the encoder's weights, in place of those that the model names",
    )
    parser.add_argument(
        '--download',
        action='store_true',
        help='download the weights if they are not on this machine',
    )
    parser.add_argument('--device', help='cpu, cuda:0, ... (default: cuda if available)')
    parser.add_argument(
        '--max-side',
        type=int,
        metavar='PIXELS',
        help="longest side; larger images are shrunk for the encoder (default: the config's)",
    )
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='override config entries'
    )


def _add_models(commands: Any) -> None:
    parser = _add_command(
        commands,
        'models',
        'list the bundled models',
        run_models,
        """\
examples:
  mmtagclip models
  mmtagclip models demo
  mmtagclip models --json""",
    )
    parser.add_argument('pattern', nargs='?', default='', help='only names that contain this')
    parser.add_argument('--json', action='store_true', help='as JSON')


def _add_config(commands: Any) -> None:
    parser = _add_command(
        commands,
        'config',
        'a config for any method, backbone and data set',
        run_config,
        """\
examples:
  mmtagclip config
  mmtagclip config sclip vit-large-p14_openai voc21 > my.py
  mmtagclip config tag-guided-naclip vit-base-p16_openai cityscapes > my.py""",
    )
    parser.add_argument('method', nargs='?', help='leave it out to list all names')
    parser.add_argument('backbone', nargs='?')
    parser.add_argument('data', nargs='?', metavar='DATASET')


def _add_demo(commands: Any) -> None:
    parser = _add_command(
        commands,
        'demo',
        'tags and masks of six scenes, with a small bundled model',
        run_demo,
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


def _add_web(commands: Any) -> None:
    parser = _add_command(
        commands,
        'web',
        'a web page to try a model with',
        run_web,
        f"""\
examples:
  mmtagclip web
  mmtagclip web --model {SEGMENTOR} --download

It listens on this machine only, unless --host says otherwise. It writes nothing to disk.
It needs: pip install mmtagclip[web]""",
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
    _add_model_options(parser)
    _add_weights(parser)


def _add_export(commands: Any) -> None:
    parser = _add_command(
        commands,
        'export',
        "a model's dense encoder as ONNX",
        run_export,
        """\
examples:
  mmtagclip export encoder.onnx --model tagclip_demo
  mmtagclip export encoder.onnx --checkpoint ViT-B-16.pt --layers 8 9 10

It needs: pip install mmtagclip[onnx]""",
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
    _add_model_options(parser)


def _add_check(commands: Any) -> None:
    parser = _add_command(
        commands,
        'check',
        'check a folder of results against its digests',
        run_check,
        """\
examples:
  mmtagclip check masks

Run the same command again to repair what is damaged or missing.""",
    )
    parser.add_argument('folder', metavar='DIR', help='folder that --out or GenerateLoop wrote')


def config_of(args: argparse.Namespace) -> Any:
    """The config that the command line describes.

    Raises:
        ValueError: The weights are missing, and --download was not given.
    """
    from .apis.model_zoo import encoder_configs, load_config, missing_weights
    from .engine import CfgOptions

    parser = argparse.ArgumentParser(prog='mmtagclip')
    parser.add_argument('--cfg-options', nargs='+', action=CfgOptions, default={})
    given = parser.parse_args(['--cfg-options', *args.cfg_options] if args.cfg_options else [])
    config = load_config(args.model, given.cfg_options)
    if args.checkpoint is not None:
        encoders = encoder_configs(config)
        if not encoders:
            raise ValueError(f'--checkpoint names the weights of an encoder; {args.model} has none')
        for encoder in encoders:
            encoder.update(pretrained=None, checkpoint=args.checkpoint)
    missing = missing_weights(config)
    if missing is not None and not args.download:
        raise ValueError(
            f'the weights of {missing} are not on this machine: add --download to '
            'fetch them once, or --checkpoint FILE if you have them'
        )
    return config


def run_images(args: argparse.Namespace) -> int:
    """``mmtagclip tag`` and ``mmtagclip segment``."""
    check_out(args)
    images = input_images(args)
    check_model(args)
    from .apis import SegInferencer, TagInferencer, inferencer_class
    from .clip import parse_names

    options = {'on_error': args.on_error, 'vis_dir': args.vis, 'threshold': args.threshold}
    for key in ('classes', 'background'):
        text = getattr(args, key)
        options[key] = None if text is None else parse_names(text)
    options = {key: value for key, value in options.items() if value is not None}
    kind = TagInferencer if args.command == 'tag' else SegInferencer
    # A progress bar and lines of results would get into each other's way.
    printing = args.out in (None, '-') and sys.stdout.isatty()
    config = config_of(args)
    if inferencer_class(config) is not kind:
        makes = {'tag': 'tags', 'segment': 'masks'}
        wanted = makes.pop(args.command)
        ((other, made),) = makes.items()
        raise ValueError(
            f'{args.model} makes {made}, not {wanted}: use `mmtagclip {other}`, or a model that '
            f'`mmtagclip models` lists as "{args.command}"'
        )
    inferencer = kind(
        config, args.weights, args.device, args.max_side, show_progress=not (args.quiet or printing)
    )
    if args.out in (None, '-'):
        records = print_results(inferencer, images, args, options)
    else:
        records = write_results(inferencer, images, args, options)
    if args.sheets is not None:
        from .apis.folder_run import write_contact_sheets

        pages = write_contact_sheets(records, args.sheets)
        note(args, f'{len(pages)} contact sheets in {args.sheets}')
    bad = [record for record in records if 'error' in record]
    for record in bad:
        print(f'mmtagclip: could not read: {record["error"]}', file=sys.stderr)
    return SOME_UNREADABLE if bad else OK


def check_out(args: argparse.Namespace) -> None:
    """Refuse an output of an unknown format, or that exists.

    Raises:
        FileExistsError: The output exists, and --overwrite was not given.
        ValueError: Its ending is no known format.
    """
    for option in ('vis', 'sheets'):
        if getattr(args, option) is not None:
            check_place(f'--{option}', getattr(args, option))
    if args.out in (None, '-'):
        return
    path, formats = Path(args.out), ('.jsonl', '.csv', '.json')
    folder = args.command == 'segment' and path.suffix == ''
    if not folder and path.suffix not in formats:
        raise ValueError(f'--out must end in {", ".join(formats)}, not {args.out}')
    check_place('--out', path if folder else path.parent)
    finished = path / 'labels.jsonl' if folder else path
    if finished.exists() and not args.overwrite and not only_clean_up_is_left(path, folder):
        raise FileExistsError(f'{finished} exists already; add --overwrite to replace it')


def only_clean_up_is_left(path: Path, folder: bool) -> bool:
    """Whether a run ended between its output and the end of its clean-up, which can be done."""
    root = path if folder else path.with_name(f'{path.name}.unfinished')
    if not root.is_dir():
        return False
    from .jobs.runner import WORK, is_half_removed, remove_results

    if not folder and is_half_removed(root):  # the output is whole
        remove_results(root)
    return (root / 'labels.jsonl').exists() and (not folder or (root / WORK).exists())


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


def check_model(args: argparse.Namespace) -> None:
    """Refuse a model, checkpoint or weights that do not exist.

    Raises:
        FileNotFoundError: There is no such config, model or file.
    """
    from .apis.model_zoo import find_config

    find_config(args.model)
    for option in ('checkpoint', 'weights'):
        path = getattr(args, option, None)
        if path is not None and not user_path(path).is_file():
            raise FileNotFoundError(f'--{option}: there is no file {path}')


def results_folder(args: argparse.Namespace) -> Path:
    """Folder of the results during a run."""
    path = Path(args.out)
    return path if path.suffix == '' else path.with_name(f'{path.name}.unfinished')


def input_images(args: argparse.Namespace) -> list:
    """The images to run on, without the files that this command writes.

    Raises:
        FileNotFoundError: There is none.
        ValueError: The output would be written among the images.
    """
    from .apis.inputs import list_images

    own = {
        option: Path(folder).resolve()
        for option, folder in (
            ('vis', args.vis),
            ('sheets', args.sheets),
            ('out', None if args.out in (None, '-') else results_folder(args)),
        )
        if folder is not None
    }
    for text in args.images:
        for option, folder in own.items():
            if user_path(text).resolve().is_relative_to(folder):
                raise ValueError(
                    f'--{option} would write among the images of {text}: name another folder'
                )
    images = list_images(args.images)
    # A run that resumes finds the drawings of the run before.
    for folder in filter(Path.exists, own.values()):
        images = [
            image for image in images if not Path(image.name).resolve().is_relative_to(folder)
        ]
    if not any(Path(image.name).exists() for image in images):
        raise FileNotFoundError(f'no image or folder at {" or ".join(args.images[:3])}')
    return images


def print_results(
    inferencer: Any, images: list, args: argparse.Namespace, options: dict
) -> list[dict[str, Any]]:
    """Print one line per image; returns the records, without masks."""
    records = []
    for result in inferencer.stream(images, batch_size=args.batch_size, **options):
        if args.out == '-':
            print(json_line(result), flush=True)
        elif result.error is None:
            print(f'{result.image}: {describe(result)}', flush=True)
        records.append(result.record.to_dict())
    return records


def json_line(result: Any) -> str:
    """A result as a line of JSON that standard output can encode."""
    if codecs.lookup(sys.stdout.encoding or 'ascii').name == 'utf-8':
        return result.to_json()
    return json.dumps(result.to_dict())


def describe(result: Any) -> str:
    """Tags with scores, or classes with their share of the image."""
    if hasattr(result, 'mask'):
        return ', '.join(f'{name} {100 * share:.1f}%' for name, share in result.shares.items())
    return ', '.join(f'{tag} {score:.2f}' for tag, score in result.tags.items()) or 'no tags'


def write_results(
    inferencer: Any, images: list, args: argparse.Namespace, options: dict
) -> list[dict[str, Any]]:
    """Write all results, resuming an earlier run that was stopped; returns the records."""
    from .apis.folder_run import FolderRun
    from .jobs.runner import remove_results

    path = Path(args.out)
    root = results_folder(args)
    run = FolderRun(inferencer, images, root, args.batch_size, options, replace=args.overwrite)
    for text in run.job.notes:
        note(args, text)
    if run.num_done:
        note(args, f'{run.num_done} of {len(images)} images are done already')
    try:
        run.run()
    except KeyboardInterrupt:
        note(
            args,
            f'{run.num_done} of {len(images)} images are safe; run the same command again to '
            'resume',
        )
        raise
    records = run.records()
    if root != path:
        run.export(path)
        remove_results(root)
    note(args, f'results of {len(images)} images in {path}')
    return records


def note(args: argparse.Namespace, text: str) -> None:
    """Print a message on standard error, unless --quiet was given."""
    if not args.quiet:
        print(text, file=sys.stderr)


def run_models(args: argparse.Namespace) -> int:
    """``mmtagclip models``."""
    from .apis.model_zoo import encoder_configs, list_models, load_config, missing_weights

    entries = [entry for entry in list_models() if args.pattern in entry.name]
    if not entries:
        raise ValueError(f'no model has {args.pattern!r} in its name')
    found = []
    for entry in entries:
        if entry.task == 'train':
            weights = 'to be trained'
        else:
            config = load_config(entry.config)
            local = all(
                str(encoder.get('model')).startswith('local-dir:')
                for encoder in encoder_configs(config)
            )
            weights = (
                'bundled'
                if local
                else 'to be downloaded'
                if missing_weights(config)
                else 'on this machine'
            )
        found.append(
            {
                'name': entry.name,
                'task': entry.task,
                'weights': weights,
                'config': str(entry.config),
                'results': list(entry.results),
            }
        )
    from .clip.text import default_cache_dir

    cache = default_cache_dir()
    features = list(cache.rglob('*.safetensors'))
    size = sum(path.stat().st_size for path in features)
    if args.json:
        text = {'folder': str(cache), 'classes': len(features), 'bytes': size}
        print(json.dumps({'models': found, 'text_features': text}, indent=2))
        return OK
    width = max(len(model['name']) for model in found)
    for model in found:
        line = f'{model["name"]:{width}}  {model["task"]:7}  {model["weights"]:16}'
        print(f'{line}  {"; ".join(model["results"])}'.rstrip())
    print(f'\ntext features of {len(features)} classes ({size / 1e6:.1f} MB) in {cache}')
    return OK


def run_config(args: argparse.Namespace) -> int:
    """``mmtagclip config``."""
    from .apis.config_table import ConfigTable

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


def run_demo(args: argparse.Namespace) -> int:
    """``mmtagclip demo``."""
    from .apis import SegInferencer, TagInferencer, zoo_root

    check_place('--out', args.out)
    scenes = zoo_root() / 'demo' / 'data' / 'JPEGImages'
    paths = [scenes / f'{name}.jpg' for name in DEMO_SCENES]
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


def run_web(args: argparse.Namespace) -> int:
    """``mmtagclip web``."""
    check_model(args)
    try:
        from .web.server import is_loopback, serve
    except ModuleNotFoundError as error:
        raise ImportError(
            f"the web page needs {error.name}: pip install 'mmtagclip[web]'"
        ) from None
    if not 0 <= args.port < 65536:
        raise ValueError(f'--port must be in 0 to 65535, not {args.port}')
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


def run_export(args: argparse.Namespace) -> int:
    """``mmtagclip export``."""
    if Path(args.out).suffix != '.onnx':
        raise ValueError(f'the file must end in .onnx, not {args.out}')
    check_place('FILE', Path(args.out).parent)
    check_model(args)
    from .apis import inferencer_class
    from .clip.onnx import export_onnx

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


def run_check(args: argparse.Namespace) -> int:
    """``mmtagclip check``."""
    from .jobs.runner import Manifest, check_folder

    problems = check_folder(args.folder)
    if problems:
        more = f'\n... and {len(problems) - 20} more' if len(problems) > 20 else ''
        raise ValueError('\n'.join(problems[:20]) + more)
    print(f'{args.folder}: {Manifest.load(args.folder).num_images} images, all as written')
    return OK
