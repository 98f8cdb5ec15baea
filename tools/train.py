"""Train the model of a config."""

import argparse
import os
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner

from mmtagclip.clip.downloads import settle_downloads
from mmtagclip.engine import (
    CfgOptions,
    prepare_distributed,
    settle_url_weights,
    trust_checkpoints,
)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--work-dir',
        help="folder for logs and checkpoints (default: the config's, or work_dirs/<config name>)",
    )
    parser.add_argument(
        '--resume',
        action='store_true',
        help='resume from the latest checkpoint in the working directory',
    )
    parser.add_argument('--amp', action='store_true', help='mixed precision (on GPUs)')
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='unpickle checkpoints, which runs what code they bring; otherwise only their '
        'weights, numbers and strings are read',
    )
    parser.add_argument(
        '--download',
        action='store_true',
        help='download weights that the config names and that are not on this machine',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=CfgOptions,
        help='override config entries: key=value, key="[a,b]", a.b.c=value',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='launcher of several processes (see dist_train.sh)',
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    if not Path(args.config).is_file():
        parser.error(f'no config file at {args.config}')
    return args


def main() -> None:
    """Run the training."""
    args = parse_args()
    cfg = Config.fromfile(args.config)
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / Path(args.config).stem)
    if cfg.get('train_dataloader') is None:
        raise SystemExit(
            f'error: {args.config} has no train_dataloader: its model is not trained; '
            'evaluate it with tools/test.py'
        )
    try:
        settle_downloads(cfg.model, args.download)
        settle_url_weights(cfg, args.download)
    except FileNotFoundError as error:
        raise SystemExit(f'error: {error}') from None
    cfg.resume = args.resume
    if args.amp:
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.loss_scale = 'dynamic'
    trust_checkpoints(args.trust_checkpoint)
    prepare_distributed(cfg, args.launcher, train=True)
    Runner.from_cfg(cfg).train()


if __name__ == '__main__':
    main()
