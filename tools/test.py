"""Evaluate the model of a config. A training-free model needs no checkpoint."""

import argparse
from pathlib import Path

import mmengine
from mmengine.config import Config

from mmtagclip.engine.options import add_run_options, config_of_run, parse_run, runner_of
from mmtagclip.files import write_whole


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        'checkpoint',
        nargs='?',
        help='checkpoint of a trained model; training-free models need none',
    )
    parser.add_argument(
        '--work-dir',
        help='folder for logs, metrics and tag files '
        "(default: the config's, or work_dirs/<config name>)",
    )
    parser.add_argument('--out', help='JSON file to write the metrics to')
    parser.add_argument(
        '--tta', action='store_true', help="average over the config's test-time augmentations"
    )
    parser.add_argument('--show-dir', help='folder to draw the results in')
    add_run_options(parser)
    args = parse_run(parser)
    if args.checkpoint is not None and '://' in args.checkpoint and not args.trust_checkpoint:
        parser.error(
            f'{args.checkpoint} would be unpickled by MMEngine: download it and name the file, or '
            'pass --trust-checkpoint and --download'
        )
    if args.out is not None and Path(args.out).suffix != '.json':
        parser.error(f'--out writes metrics as JSON, so it must end in .json, not {args.out}')
    return args


def augment(cfg: Config) -> None:
    """Turn on the config's test-time augmentation."""
    missing = {'tta_model', 'tta_pipeline'} - cfg.keys()
    if missing:
        raise SystemExit(f'error: --tta needs {" and ".join(sorted(missing))} in the config')
    cfg.model = dict(**cfg.tta_model, module=cfg.model)
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline


def draw(cfg: Config, folder: str) -> None:
    """Turn the config's visualization hook on."""
    hook = cfg.get('default_hooks', {}).get('visualization')
    if hook is None or cfg.get('visualizer') is None:
        raise SystemExit(
            'error: --show-dir needs default_hooks.visualization and a visualizer in the config'
        )
    hook.draw = True
    hook.setdefault('interval', 1)  # the official MMSegmentation's 50 counts in tests, too
    cfg.visualizer.save_dir = folder


def main() -> None:
    """Run the test."""
    args = parse_args()
    cfg = config_of_run(args)
    if args.checkpoint is not None:
        cfg.load_from = args.checkpoint
    if args.tta:
        augment(cfg)
    if args.show_dir is not None:
        draw(cfg, args.show_dir)
    runner = runner_of(cfg, args)
    metrics = runner.test()
    if args.out is not None and runner.rank == 0:
        write_whole(args.out, mmengine.dump(metrics, file_format='json', indent=2).encode())


if __name__ == '__main__':
    main()
