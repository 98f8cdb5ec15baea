"""Compare the dense encoders on the demo's scenes: tables of tags, of masks, and of regions.

    python tools/analysis_tools/compare_encoders.py --out work_dirs/encoders.json

Each cell is a config of configs/demo with another encoder, run as tools/test.py runs it.
Each metric has the seconds per image beside it, without reading the file. PIAA's classifier is
fitted to the same scenes, without their labels. It is always fitted in float32, because its
checkpoint serves any --dtype. Cells are written one by one; run the same command again to resume.

The table of regions (--kinds regions) has direct segmentation with regions of two kinds. "Objects"
are connected areas of one label in the scenes' own masks: an upper bound, which no real source
reaches. "Colours" are those of scikit-image's segmentation by Felzenszwalb and Huttenlocher, which
needs no weights. DINO's weights are not bundled: the features for CorrCLIP are the demo CLIP's own
patches, value-only, or all the same, which leaves the regions alone. With --images, value-only
attention is also measured with a memory bank of the regions of the scenes that are left, whose keys
are these patches.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from mmtagclip.apis import build_references, load_reference_encoder
from mmtagclip.apis.banks import build_bank
from mmtagclip.clip import DenseEncoder, load_clip
from mmtagclip.files import write_image, write_whole
from mmtagclip.frameworks import segmentation  # noqa: F401  without its messages
from mmtagclip.images import read_image, read_index_mask
from mmtagclip.models import RegionEncoder
from mmtagclip.regions import Affinity, AffinitySource
from mmtagclip.registry import MODELS

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
    'CLIP-DINOiser': 'clip-dinoiser',  # with --pooling only
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
# Further rows of the table of masks, and the config of each column: value-only attention with other
# maps, or with references of the classes. These are found in the same scenes, without labels.
REFERENCES = 'ReCo (value-only, references of the classes)'
FURTHER = {
    REFERENCES: {'direct': 'direct_demo', 'tag-guided': 'tag-guided_demo'},
    'surgery maps': {'CLS-SEG': 'cls-seg_demo_surgery'},
    'surgery maps of SVC (ExCEL)': {'CLS-SEG': 'cls-seg_demo_svc'},
}
# Row of the table of regions, and the method and source of its encoder.
SOURCES = {
    'TagCLIP (value-only)': ('tagclip', None),
    'SCLIP': ('sclip', None),
    "CorrCLIP, CLIP's own features": ('corrclip', {'type': 'mmtagclip.OwnFeatures'}),
    'CorrCLIP, regions alone': ('corrclip', {'type': 'mmtagclip.SameFeatures'}),
}
BANK = 'TagCLIP (value-only), memory bank'
BANK_SIDE = 224  # of the scenes in it, in pixels
# Its columns: which regions, and whether labels are corrected by them.
REGIONS = {
    'no regions': ('none', False),
    'objects': ('objects', False),
    'objects, map correction': ('objects', True),
    'colours': ('colours', False),
    'colours, map correction': ('colours', True),
}


@MODELS.register_module(force=True)
class OwnFeatures(AffinitySource):
    """Patches of the demo's CLIP, value-only; images are enlarged to whole patches."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = DenseEncoder(load_clip(f'local-dir:{ROOT / "demo/model"}'))

    def forward(self, pixels: torch.Tensor) -> Affinity:
        """See :class:`AffinitySource`."""
        mean, std = (
            torch.tensor(one)[:, None, None] for one in (self.encoder.mean, self.encoder.std)
        )
        patch = self.encoder.patch_size
        size = [-(-side // patch) * patch for side in pixels.shape[2:]]
        pixels = torch.nn.functional.interpolate(pixels, size=size, mode='bilinear')
        found = self.encoder((pixels - mean) / std)
        return Affinity(found.patches.transpose(1, 2).unflatten(2, found.grid))


@MODELS.register_module(force=True)
class SameFeatures(AffinitySource):
    """The same for all patches of 16 pixels, so that only regions tell them apart."""

    def forward(self, pixels: torch.Tensor) -> Affinity:
        """See :class:`AffinitySource`."""
        return Affinity(pixels.new_ones(len(pixels), 1, *(side // 16 for side in pixels.shape[2:])))


def object_regions(labels: np.ndarray) -> np.ndarray:
    """Connected areas of one label, the background's included; 255 belongs to none."""
    ids = np.zeros(labels.shape, dtype=np.int32)
    for label in np.unique(labels):
        if label != 255:
            areas = cv2.connectedComponents((labels == label).astype(np.uint8))[1]
            ids = np.where(areas > 0, areas + ids.max(), ids)
    return ids


def make_regions(folder: Path) -> None:
    """Write the regions of all scenes, in a folder of each kind."""
    from skimage.segmentation import felzenszwalb

    for image in sorted((ROOT / 'demo/data/JPEGImages').iterdir()):
        mask = read_index_mask(ROOT / f'demo/data/SegmentationClass/{image.stem}.png')
        colours = felzenszwalb(read_image(image), scale=100, sigma=0.5, min_size=50) + 1
        for kind, ids in (('objects', object_regions(mask)), ('colours', colours)):
            (folder / kind).mkdir(exist_ok=True)
            write_image(folder / kind / f'{image.stem}.png', ids.astype(np.uint16))


def make_bank(kind: str, work_dir: Path, args: argparse.Namespace) -> Path:
    """Make a memory bank of the regions of the scenes that are not measured, if there is none."""
    path = work_dir / f'{kind}.safetensors'
    if not path.is_file():
        encoder = load('direct_demo', 'tagclip', work_dir, args).model.encoder
        windows = {'type': 'mmtagclip.WholeImage', 'cut': True}
        model = RegionEncoder(encoder, OwnFeatures(), windows, side=BANK_SIDE).eval()
        scenes = sorted((ROOT / 'demo/data/JPEGImages').iterdir())[args.images :]
        build_bank(model, scenes, work_dir / kind, path, on_error='raise', show_progress=False)
    return path


def load_regions(row: str, column: str, work_dir: Path, args: argparse.Namespace) -> Config:
    """The config of one cell of the table of regions."""
    method, source = SOURCES['TagCLIP (value-only)' if row == BANK else row]
    kind, corrected = REGIONS[column]
    cfg = load('direct_demo', method, work_dir, args)
    if row == BANK:
        cfg.model.cosine_processor = {
            'type': 'mmtagclip.BankProcessor',
            'bank': str(make_bank(kind, work_dir, args)),
            'source': {'type': 'mmtagclip.OwnFeatures'},
        }
    if source is not None:
        alone = source['type'] == 'mmtagclip.SameFeatures'
        last_block = {'type': 'mmtagclip.CorrCLIPLastBlock', 'source': source, 'merge': not alone}
        cfg.model.encoder.last_block = last_block
    if kind != 'none':
        step = {'type': 'mmtagclip.LoadRegions', 'path': str(work_dir / kind)}
        cfg.test_dataloader.dataset.pipeline.insert(1, step)
    if corrected:
        cfg.model.label_processor = {'type': 'mmtagclip.MapCorrection'}
    return cfg


def load_further(row: str, column: str, work_dir: Path, args: argparse.Namespace) -> Config:
    """The config of one cell of the further rows."""
    cfg = load(FURTHER[row][column], 'tagclip', work_dir, args)
    if row == REFERENCES:
        bank = work_dir / 'references.safetensors'
        finder = Config.fromfile(ROOT / 'configs/_base_/banks/reco-demo.py')
        if not bank.is_file():
            names = str(ROOT / 'demo/data/classes.txt')
            scenes, model = ROOT / 'demo/data/JPEGImages', load_reference_encoder(finder)
            build_references(model, scenes, bank, names, max_side=1024, show_progress=False)
        cfg.model.cosine_processor = {
            'type': 'mmtagclip.ReferenceProcessor',
            'bank': str(bank),
            'source': finder.model.source,
        }
    return cfg


def load(name: str, encoder: str, work_dir: Path, args: argparse.Namespace) -> Config:
    """The config of one cell."""
    cfg = Config.fromfile(ROOT / f'configs/demo/{name}.py')
    method = Config.fromfile(ROOT / f'configs/_base_/methods/{ENCODERS.get(encoder, encoder)}.py')
    owner = cfg.model if 'encoder' in cfg.model else cfg.model.tagger
    for key in ('last_block', 'positions'):
        owner.encoder.pop(key, None)
    owner.encoder.update(method.model.encoder, dtype=args.dtype)
    if 'pooling' in owner.encoder:
        owner.encoder.pooling = {'type': 'mmtagclip.LearntPooling', 'checkpoint': args.pooling}
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

    if 'regions' in args.kinds:
        make_regions(work_dir)
    rows = [*SOURCES, *([BANK] if args.images else [])]
    for row in rows if 'regions' in args.kinds else ():
        needed = row not in ('TagCLIP (value-only)', 'SCLIP')
        for column, (kind, corrected) in REGIONS.items():
            # Without CorrCLIP or a bank, regions change nothing but by map correction.
            senseless = needed if kind == 'none' else not (needed or corrected)
            if senseless or column in results['regions'].get(row, {}):
                continue
            done('regions', row, column, test(load_regions(row, column, work_dir, args), 'mIoU'))
    for row, columns in FURTHER.items() if 'further' in args.kinds else ():
        for column in columns:
            if column not in results['masks'].get(row, {}):
                done('masks', row, column, test(load_further(row, column, work_dir, args), 'mIoU'))
    if 'encoders' not in args.kinds:
        return
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
        for kind, key in (('tags', 'mAP'), ('masks', 'mIoU'), ('regions', 'mIoU'))
        if results[kind]
    }

    def text(kind: str, key: str, cell: dict[str, float]) -> str:
        value = f'{cell[key]:.1f}'
        return f'{f"**{value}**" if cell[key] == best[kind] else value} ({cell["seconds"]:.3f})'

    lines = []
    for kind, key, columns in (
        ('tags', 'mAP', TAGS),
        ('masks', 'mIoU', MASKS),
        ('regions', 'mIoU', REGIONS),
    ):
        if not results[kind]:
            continue
        lines += [
            f'| {key} (seconds per image) | ' + ' | '.join(columns) + ' |',
            '|---|' + '---|' * len(columns),
        ]
        for name, row in results[kind].items():
            found = [text(kind, key, row[column]) if column in row else '' for column in columns]
            lines.append(f'| {name} | {" | ".join(found)} |')
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
        metavar='NAME',
        help=f'some of: {", ".join(ENCODERS)} (default: all, CLIP-DINOiser if --pooling is given)',
    )
    parser.add_argument(
        '--pooling', help='checkpoint of configs/pooling/pooling_demo.py, for CLIP-DINOiser'
    )
    parser.add_argument(
        '--kinds',
        nargs='+',
        choices=('encoders', 'further', 'regions'),
        default=['encoders', 'further', 'regions'],
        help='tags and masks of the encoders, masks of other maps and with references, or masks '
        'with regions (default: all)',
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
    if args.encoders is None:
        args.encoders = [name for name in ENCODERS if args.pooling or name != 'CLIP-DINOiser']
    if 'CLIP-DINOiser' in args.encoders and args.pooling is None:
        parser.error('CLIP-DINOiser needs --pooling, a checkpoint of its training on the demo')
    settings = {'images': args.images, 'dtype': args.dtype}
    results: dict[str, Any] = {**settings, 'tags': {}, 'masks': {}, 'regions': {}}
    if args.out.is_file():
        results.update(json.loads(args.out.read_text()))
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
