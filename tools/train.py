"""Train the model of a config."""

import argparse

from mmtagclip.engine.options import add_run_options, config_of_run, parse_run, runner_of


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
    add_run_options(parser)
    return parse_run(parser)


def main() -> None:
    """Run the training."""
    args = parse_args()
    cfg = config_of_run(args)
    if cfg.get('train_dataloader') is None:
        raise SystemExit(
            f'error: {args.config} has no train_dataloader: its model is not trained; '
            'evaluate it with tools/test.py'
        )
    cfg.resume = args.resume
    if args.amp:
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.loss_scale = 'dynamic'
    runner_of(cfg, args, train=True).train()


if __name__ == '__main__':
    main()
