"""Compare the dense encoders on the demo's scenes, in one table of tags and one of masks.

    python tools/analysis_tools/compare_encoders.py --out work_dirs/encoders.json

Each cell is a config of configs/demo with another encoder, run as tools/test.py runs it.
Each metric has the seconds per image beside it, without reading the file. PIAA's classifier is
fitted to the same scenes, without their labels. It is always fitted in float32, because its
checkpoint serves any --dtype. Cells are written one by one; run the same command again to resume.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from mmtagclip.files import write_whole
from mmtagclip.frameworks import segmentation  # noqa: F401  without its messages

ROOT = Path(__file__).resolve().parents[2]
# Row of the table and its method, whose last block and positions it takes.
ENCODERS = {
    'TagCLIP (value-only)': 'tagclip',
    'MaskCLIP (value-only, bicubic)': 'maskclip',
    'SCLIP': 'sclip',
    'ClearCLIP': 'clearclip',
    'NACLIP': 'naclip',
    'ITACLIP': 'itaclip',
    'SC-CLIP': 'scclip',
    'ExCEL (SVC)': 'svc',
}
# Column of the table and its config.
TAGS = {
    'class token': 'clip_demo',
    'coarse': 'coarse_demo',
    '+DMAR': 'dmar_demo',
    '+DMAR+CWR': 'tagclip_demo',
    'PIAA': 'piaa_demo',
    'PIAA+DMAR+CWR': 'piaa-dmar-cwr_demo',
}
MASKS = {'direct': 'direct_demo', 'tag-guided': 'tag-guided_demo', 'CLS-SEG': 'cls-seg_demo'}


def load(name: str, encoder: str, work_dir: Path, args: argparse.Namespace) -> Config:
    """The config of one cell."""
    cfg = Config.fromfile(ROOT / f'configs/demo/{name}.py')
    method = Config.fromfile(ROOT / f'configs/_base_/methods/{ENCODERS[encoder]}.py')
    owner = cfg.model if 'encoder' in cfg.model else cfg.model.tagger
    for key in ('last_block', 'positions'):
        owner.encoder.pop(key, None)
    owner.encoder.update(method.model.encoder, dtype=args.dtype)
    cfg.work_dir, cfg.log_level, cfg.experiment_name = str(work_dir), 'ERROR', str(time.time_ns())
    for loader in (cfg.test_dataloader, cfg.get('train_dataloader')):
        if loader is not None:
            loader.num_workers = 0
            loader.dataset.indices = args.images
    return cfg


def test(cfg: Config, key: str) -> dict[str, float]:
    """Run a test and return its metric and the seconds per image."""
    runner = Runner.from_cfg(cfg)
    seconds = []
    step = runner.model.test_step

    def timed(data: Any) -> Any:
        start = time.perf_counter()
        result = step(data)
        seconds.append((time.perf_counter() - start) / len(result))
        return result

    runner.model.test_step = timed
    metrics = runner.test()
    return {
        key: round(float(metrics['multi-label/mAP' if key == 'mAP' else key]), 2),
        'seconds': round(sum(seconds) / len(seconds), 4),
    }


def cells(results: dict[str, Any], args: argparse.Namespace, work_dir: Path) -> None:
    """Compute the missing cells, and write each when it is done."""

    def done(kind: str, encoder: str, column: str, cell: dict[str, float]) -> None:
        results[kind].setdefault(encoder, {})[column] = cell
        write_whole(args.out, json.dumps(results, indent=2).encode(), b'\n')
        print(f'{encoder}, {column}: {cell}', flush=True)

    for number, encoder in enumerate(args.encoders):
        checkpoint = work_dir / f'{number}.pth'
        for column, config in TAGS.items():
            if column in results['tags'].get(encoder, {}):
                continue
            cfg = load(config, encoder, work_dir, args)
            if 'PIAA' in column:
                if not checkpoint.is_file():
                    fit = load('piaa_demo', encoder, work_dir, args)
                    fit.model.encoder.dtype = 'float32'
                    fit.train_cfg.out_file = checkpoint.name
                    Runner.from_cfg(fit).train()
                cfg.load_from = str(checkpoint)
            done('tags', encoder, column, test(cfg, 'mAP'))
        for column, config in MASKS.items():
            if column not in results['masks'].get(encoder, {}):
                done('masks', encoder, column, test(load(config, encoder, work_dir, args), 'mIoU'))


def table(results: dict[str, Any]) -> str:
    """Format all cells as Markdown, the best of each kind in bold."""
    best = {
        kind: max(cell[key] for row in results[kind].values() for cell in row.values())
        for kind, key in (('tags', 'mAP'), ('masks', 'mIoU'))
    }

    def text(kind: str, key: str, cell: dict[str, float]) -> str:
        value = f'{cell[key]:.1f}'
        return f'{f"**{value}**" if cell[key] == best[kind] else value} ({cell["seconds"]:.3f})'

    lines = []
    for kind, key, columns in (('tags', 'mAP', TAGS), ('masks', 'mIoU', MASKS)):
        lines += [
            f'| {key} (seconds per image) | ' + ' | '.join(columns) + ' |',
            '|---|' + '---|' * len(columns),
        ]
        lines += [
            f'| {encoder} | '
            + ' | '.join(text(kind, key, row[column]) for column in columns)
            + ' |'
            for encoder, row in results[kind].items()
        ]
        lines.append('')
    return '\n'.join(lines)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', type=Path, required=True, help='JSON file to write')
    parser.add_argument(
        '--encoders',
        nargs='+',
        choices=ENCODERS,
        default=list(ENCODERS),
        metavar='NAME',
        help=f'some of: {", ".join(ENCODERS)} (default: all)',
    )
    parser.add_argument(
        '--images', type=int, help='number of scenes, from the first, at least 60 (default: all)'
    )
    parser.add_argument(
        '--dtype',
        default='float32',
        help="dtype of the image tower for scores (default: 'float32')",
    )
    args = parser.parse_args()
    settings = {'images': args.images, 'dtype': args.dtype}
    results: dict[str, Any] = {**settings, 'tags': {}, 'masks': {}}
    if args.out.is_file():
        results = json.loads(args.out.read_text())
        if {key: results.get(key) for key in settings} != settings:
            parser.error(
                f'{args.out} was made with other settings than {settings}; name another file'
            )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        cells(results, args, Path(folder))
    print(f'\n{table(results)}')


if __name__ == '__main__':
    main()
