"""``mmtagclip tag`` and ``mmtagclip segment``."""

import argparse
import codecs
import json
import shlex
import sys
from pathlib import Path
from typing import Any

from ..exports import Options, formats_of_runs
from ..files import real_path, user_path
from ..images import unread_sentence
from .batch import add_engine, check_job, is_job, run_job
from .common import (
    CHECKPOINT,
    OK,
    SEGMENTOR,
    SOME_UNREADABLE,
    TAGGER,
    add_command,
    add_images,
    add_model_options,
    add_reading,
    add_weights,
    check_model,
    check_new,
    check_place,
    config_of,
    note,
    weights_of,
)


def add_parser(commands: Any) -> None:
    """Add both commands."""
    _add_command(
        commands,
        'tag',
        TAGGER,
        'tags of images',
        """\
examples:
  mmtagclip tag photo.jpg --classes dog,cat,"traffic light" --download
  mmtagclip tag photos --classes names.txt --background sky,grass,road --out tags.csv
  mmtagclip tag photos --model tagclip_demo --out tags.jsonl --vis pictures --sheets pages
  mmtagclip tag 'photos/**/*.png' --checkpoint ViT-B-16.pt --out coco.json
  mmtagclip tag photos --classes auto --download""",
    )
    _add_command(
        commands,
        'segment',
        SEGMENTOR,
        'masks of images',
        """\
examples:
  mmtagclip segment photo.jpg --classes dog,cat --vis pictures --download
  mmtagclip segment photos --classes names.txt --out masks
  mmtagclip segment photos --model cls-seg_demo --out coco.json""",
    )


def _add_command(commands: Any, name: str, model: str, text: str, epilog: str) -> None:
    parser = add_command(commands, name, text, run, epilog)
    add_images(parser)
    parser.add_argument(
        '--classes',
        help='what to find: names separated by commas, a file with '
        "one per line, or a built-in list such as coco (default: the model's)"
        + (
            '. auto: for each image the names of imagenet12k that are nearest to it; '
            'auto:LIST: of another list'
            if name == 'tag'
            else ''
        ),
    )
    if name == 'tag':
        parser.add_argument(
            '--captions',
            metavar='FILE',
            help='with --classes auto: text file with one caption per line, or a folder of images '
            'whose file names count; an image is asked for names of the list that occur in the '
            'captions nearest to it',
        )
        parser.add_argument(
            '--names',
            type=int,
            metavar='N',
            help='with --classes auto: most names that an image is asked for (default: 20)',
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
    parser.add_argument(
        '--min-score',
        type=float,
        metavar='S',
        help='lowest score of a tag, in [0, 1]; 0 for none. An image may have no tag (default: '
        "the model's, or else a quarter of pure chance, 0.25 / C for C competing names)",
    )
    parser.add_argument(
        '--top', type=int, metavar='N', help='most tags of an image (default: any number)'
    )
    parser.add_argument(
        '--thresholds',
        metavar='FILE',
        help='thresholds of single classes, in place of --threshold: a .csv of mmtagclip '
        'thresholds, or one number per class in their order, as RAM publishes them',
    )
    parser.add_argument(
        '--all-scores',
        action='store_true',
        help='write the score of every class, not only of the tags',
    )
    if name == 'tag':
        parser.add_argument(
            '--descriptions',
            metavar='FILE',
            help='JSON or YAML with a list of descriptions of each class; results then say which '
            'of them spoke for a tag',
        )
        parser.add_argument(
            '--shortlist',
            type=int,
            metavar='K',
            help='refine only the K classes of the highest coarse scores of an image; for lists of '
            'thousands of names (default: all)',
        )
        parser.add_argument(
            '--hide', metavar='NAMES', help='classes never to report; given as --classes'
        )
        parser.add_argument(
            '--labels',
            metavar='FILE',
            help='what to call the classes in the results: one per line in their order, or JSON '
            'or YAML from names to labels',
        )
    out = (
        'file to write: .jsonl (one line per image), .csv (one row per tag), .json (COCO format), '
        '.parquet, or - for JSON lines on standard output'
    )
    if name == 'segment':
        out = 'folder for masks (palette PNGs) and labels.jsonl, to train on; or a ' + out
    parser.add_argument('--out', help=f'{out}. Run the same command again to resume')
    parser.add_argument('--vis', metavar='DIR', help='folder for a drawing of each result')
    parser.add_argument('--sheets', metavar='DIR', help='folder for contact sheets')
    parser.add_argument('--overwrite', action='store_true', help='overwrite an existing --out')
    parser.add_argument(
        '--model',
        default=model,
        help=f'name of a model (see mmtagclip models) or config (default: {model})',
    )
    add_model_options(
        parser, checkpoint=f'{CHECKPOINT}; or the checkpoint of a model that was trained'
    )
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='unpickle the checkpoint of a trained model, which runs what code it brings; '
        'otherwise only its weights, numbers and strings are read',
    )
    add_weights(parser)
    parser.add_argument(
        '--batch-size',
        type=int,
        default=1,
        metavar='N',
        help='images per batch (default: 1); those of equal size are encoded together',
    )
    add_reading(parser)
    add_engine(parser)


def run(args: argparse.Namespace) -> int:
    """``mmtagclip tag`` and ``mmtagclip segment``."""
    job = is_job(args)
    unread: list[Path] = []
    images: list[Any] = []
    if job:
        check_job(args)
    else:
        check_out(args)
        images = input_images(args, unread)
    check_model(args)
    from ..apis.model_zoo import task_of
    from ..clip import parse_names
    from ..models import TagRule
    from ..models.taggers.thresholds import read_thresholds

    if task_of(args.model) == {'tag': 'segment', 'segment': 'tag'}[args.command]:
        raise other_command(args)

    rule = {key: getattr(args, key) for key in ('threshold', 'min_score', 'top')}
    TagRule().but(**rule)  # refuses what is out of range
    if args.thresholds is not None:
        rule['thresholds'] = read_thresholds(args.thresholds)
    options = {'on_error': args.on_error, 'vis_dir': args.vis, **rule}
    options['all_scores'] = args.all_scores or None
    for key in ('classes', 'background', 'hide'):
        text = getattr(args, key, None)
        auto = auto_names(args) if key == 'classes' and args.command == 'tag' else None
        options[key] = auto or (None if text is None else parse_names(text))
    options |= {key: getattr(args, key, None) for key in ('descriptions', 'labels')}
    options = {key: value for key, value in options.items() if value is not None}
    # A progress bar and lines of results would get into each other's way.
    printing = args.out in (None, '-') and sys.stdout.isatty()
    config = config_of(args)
    if getattr(args, 'shortlist', None) is not None:
        check_refines(config, args.model)
        config.model.head.shortlist = args.shortlist
    from .. import apis  # after all that can be refused without torch
    from ..apis.demo_model import are_demo_scenes, demo_notice

    kind = apis.TagInferencer if args.command == 'tag' else apis.SegInferencer
    if apis.inferencer_class(config) is not kind:
        raise other_command(args)
    if job:
        return run_job(args, config, options)
    inferencer = kind(
        config,
        weights_of(args, config),
        args.device,
        args.max_side,
        show_progress=not (args.quiet or printing),
        trust_checkpoint=args.trust_checkpoint,
    )
    inferencer.warns = False
    if inferencer.is_demo_model and not are_demo_scenes(images):
        note(args, f'mmtagclip: {demo_notice(real_command(args))}')
    if args.out in (None, '-'):
        records = print_results(inferencer, images, args, options)
    else:
        records = write_results(inferencer, images, args, options)
    if args.sheets is not None:
        from ..apis.folder_run import write_contact_sheets

        pages = write_contact_sheets(records, args.sheets)
        note(args, f'{len(pages)} contact sheets in {args.sheets}')
    bad = [record for record in records if 'error' in record]
    for record in bad:
        print(f'mmtagclip: could not read: {record["error"]}', file=sys.stderr)
    if unread:
        print(f'mmtagclip: {unread_sentence(unread)}', file=sys.stderr)
    return SOME_UNREADABLE if bad else OK


def auto_names(args: argparse.Namespace) -> Any:
    """Where names that are chosen for each image come from; None if --classes is not auto.

    Raises:
        ValueError: An option for auto without it, or a number of names below 1.
    """
    auto, _, names = (args.classes or '').partition(':')
    if auto != 'auto':
        for option in ('captions', 'names'):
            if getattr(args, option) is not None:
                raise ValueError(f'--{option} needs --classes auto')
        return None
    from ..clip import parse_names
    from ..models import AutoNames

    count = {} if args.names is None else {'count': args.names}
    return AutoNames(parse_names(names or 'imagenet12k'), args.captions, **count)


def check_refines(config: Any, model: str) -> None:
    """Refuse a shortlist for a model whose head does not refine the scores of classes.

    Raises:
        ValueError: It does not.
    """
    from ..models import TagCLIPHead
    from ..registry import MODELS

    kind = MODELS.get(config.model.get('head', {}).get('type', ''))
    if not isinstance(kind, type) or not issubclass(kind, TagCLIPHead):
        raise ValueError(
            f'--shortlist limits what DMAR and CWR refine, and {model} has neither: leave it out'
        )


def other_command(args: argparse.Namespace) -> ValueError:
    """The error for a model of the other command."""
    makes = {'tag': 'tags', 'segment': 'masks'}
    wanted = makes.pop(args.command)
    ((other, made),) = makes.items()
    return ValueError(
        f'{args.model} makes {made}, not {wanted}: use `mmtagclip {other}`, or a model that '
        f'`mmtagclip models` lists as "{args.command}"'
    )


def real_command(args: argparse.Namespace) -> str:
    """A command for the same images and names, with the default model instead of the demo's."""
    names = [
        f'--{key}={getattr(args, key)}'
        for key in ('classes', 'background')
        if getattr(args, key) is not None
    ]
    return shlex.join(['mmtagclip', args.command, *args.images[:3], *names, '--download'])


def check_out(args: argparse.Namespace) -> None:
    """Refuse an output of an unknown format, or a file that exists.

    Raises:
        FileExistsError: The file exists, and --overwrite was not given.
        ImportError: The format needs a package that is not installed.
        ValueError: Its ending is no known format.
    """
    for option in ('vis', 'sheets'):
        if getattr(args, option) is not None:
            check_place(f'--{option}', getattr(args, option))
    if args.out in (None, '-'):
        return
    path, formats = Path(args.out), formats_of_runs()
    folder = args.command == 'segment' and path.suffix == ''
    if not folder and path.suffix not in formats:
        or_folder = ', or be a folder without an ending' if args.command == 'segment' else ''
        raise ValueError(f'--out must end in {", ".join(formats)}{or_folder}, not {args.out}')
    if not folder:
        kind = 'tags' if args.command == 'tag' else 'masks'
        formats[path.suffix].check(kind, path, Options())
    check_place('--out', path if folder else path.parent)
    if not folder:
        check_new(args, path)


def results_folder(args: argparse.Namespace) -> Path:
    """Folder of the results during a run."""
    from ..jobs.runner import unfinished

    path = Path(args.out)
    return path if path.suffix == '' else unfinished(path)


def input_images(args: argparse.Namespace, unread: list[Path] | None = None) -> list:
    """The images to run on, without the files that this command writes.

    Args:
        args: The command line.
        unread: A list to which the files that are not read are added.

    Raises:
        FileNotFoundError: There is none.
        ValueError: The output would be written among the images.
    """
    from ..apis.inputs import list_images

    own = {
        option: real_path(folder)
        for option, folder in (
            ('vis', args.vis),
            ('sheets', args.sheets),
            ('out', None if args.out in (None, '-') else results_folder(args)),
        )
        if folder is not None
    }
    for text in args.images:
        for option, folder in own.items():
            if real_path(user_path(text)).is_relative_to(folder):
                raise ValueError(
                    f'--{option} would write among the images of {text}: name another folder'
                )
    unread = [] if unread is None else unread
    images = list_images(args.images, unread=unread)
    # A run that resumes finds the drawings of the run before.
    written = [one for one in (*own.values(), *outputs(args)) if one.exists()]

    def is_ours(path: str | Path) -> bool:
        return any(real_path(path).is_relative_to(one) for one in written)

    if written:
        images = [image for image in images if not is_ours(image.name)]
        unread[:] = [path for path in unread if not is_ours(path)]
    if not any(Path(image.name).exists() for image in images):
        raise FileNotFoundError(f'no image or folder at {" or ".join(args.images[:3])}')
    return images


def outputs(args: argparse.Namespace) -> list[Path]:
    """The file that --out names, if it names one."""
    return [] if args.out in (None, '-') else [Path(args.out).resolve()]


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
    found = [f'{name} {number}' for name, number in result.describe().items()]
    return ', '.join(found) or 'no tags'


def write_results(
    inferencer: Any, images: list, args: argparse.Namespace, options: dict
) -> list[dict[str, Any]]:
    """Write all results, resuming an earlier run that was stopped; returns the records."""
    from ..apis.folder_run import FolderRun
    from ..jobs.runner import remove_results

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
