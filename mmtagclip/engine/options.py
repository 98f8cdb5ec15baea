"""Options of the command line tools, and how test.py and train.py start.

Modules that import torch are imported where they are needed: a wrong option is refused quickly.
"""

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmengine.config import Config, DictAction

from ..clip.downloads import settle_downloads
from ..frameworks import import_scope

if TYPE_CHECKING:
    from mmengine.runner import Runner


class CfgOptions(DictAction):
    """mmengine's ``--cfg-options``, which refuses what has no ``=``, and spaces between words.

    mmengine drops these, so that ``traffic light`` would become another class.
    """

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Sequence[str] | Any,
        option_string: str | None = None,
    ) -> None:
        """Check the values, then parse them."""
        for value in values:
            if '=' not in value:
                parser.error(f'{value}: an option is KEY=VALUE')
            if re.search(r'=.*\w\s+\w', value):
                parser.error(
                    f'{value}: its spaces would get lost; put names with spaces into a '
                    'file, one a line, and give its path'
                )
        super().__call__(parser, namespace, values, option_string)


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """Add --cfg-options."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=CfgOptions,
        default={},
        help='override config entries: key=value, key="[a,b]", a.b.c=value',
    )


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that test.py and train.py share, after their own."""
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
    add_cfg_options(parser)
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='launcher of several processes (see dist_test.sh and dist_train.sh)',
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def parse_run(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Read the command line of a parser with ``config`` and :func:`add_run_options`.

    A config that is not there ends the program.
    """
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    if not Path(args.config).is_file():
        parser.error(f'no config file at {args.config}')
    return args


def config_of_run(args: argparse.Namespace) -> Config:
    """The config with the overrides of the command line, and with a working directory."""
    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options)
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / Path(args.config).stem)
    return cfg


def runner_of(cfg: Config, args: argparse.Namespace, train: bool = False) -> 'Runner':
    """The runner of a config, under the options of the command line.

    Weights that would have to be downloaded without asking end the program.

    Args:
        cfg: The config.
        args: Of :func:`parse_run`.
        train: Whether gradients are to be exchanged between processes.
    """
    try:
        settle_downloads(cfg.get('model'), args.download)
        from .checkpoints import settle_url_weights, trust_checkpoints

        # A test loads load_from alone, and never what its parts would start from.
        settle_url_weights(cfg if train else {'load_from': cfg.get('load_from')}, args.download)
    except FileNotFoundError as error:
        raise SystemExit(f'error: {error}') from None
    from mmengine.runner import Runner

    from .distributed import prepare_distributed

    import_scope(cfg.get('default_scope'))
    trust_checkpoints(args.trust_checkpoint)
    prepare_distributed(cfg, args.launcher, train)
    return Runner.from_cfg(cfg)
