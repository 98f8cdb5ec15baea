"""Run the demo: the ablation on the test scenes, then images of some scenes with their tags.

    python demo/run.py

Tests each row like tools/test.py. Writes the mAP of tags and the mIoU of masks of each row to
work_dirs/demo/metrics.json, and images with tags, scores and heat maps to work_dirs/demo/pictures.
"""

import argparse
import json
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from PIL import Image

from mmtagclip.datasets import ResizeToPatchGrid
from mmtagclip.frameworks import segmentation  # noqa: F401  without its messages
from mmtagclip.images import read_image
from mmtagclip.models import TagCLIP
from mmtagclip.registry import MODELS
from mmtagclip.visualization import draw_tags

ROOT = Path(__file__).resolve().parent.parent
# Row of the ablation and its config: tags, then masks.
ROWS = {
    'class_token': 'clip_demo',
    'coarse': 'coarse_demo',
    'dmar': 'dmar_demo',
    'cwr': 'tagclip_demo',
    'cls_seg': 'cls-seg_demo',
    'direct': 'direct_demo',
    'tag_guided': 'tag-guided_demo',
}


def ablation(out: Path, data: Path, scenes: int | None = None) -> dict[str, float]:
    """Compute the mAP of tags or the mIoU of masks of each row on a set's first scenes, or all."""
    metrics = {}
    for row, config in ROWS.items():
        cfg = Config.fromfile(ROOT / f'configs/demo/{config}.py')
        cfg.work_dir = str(out / row)
        cfg.visualizer.name = row  # without it, all rows would share the first row's visualizer
        cfg.test_dataloader.dataset.data_root = str(data)
        if scenes:
            cfg.test_dataloader.dataset.indices = scenes
        found = Runner.from_cfg(cfg).test()
        metrics[row] = float(found.get('multi-label/mAP', found.get('mIoU')))
    return metrics


def pictures(out: Path, data: Path, count: int) -> list[Path]:
    """Tag some scenes and draw them."""
    config = Config.fromfile(ROOT / 'configs/demo/tagclip_demo.py')
    config.model.with_score_maps = True
    tagger: TagCLIP = MODELS.build(config.model)
    resize = ResizeToPatchGrid(tagger.encoder.patch_size)
    scenes = sorted((data / 'JPEGImages').glob('*.jpg'))
    out.mkdir(parents=True, exist_ok=True)
    drawn = []
    for path in scenes[:: max(1, len(scenes) // max(1, count))][:count]:
        image = read_image(path)
        fitted = resize({'img': image[..., ::-1], 'img_path': str(path)})['img'].copy()
        (sample,) = tagger.test_step({'inputs': [torch.from_numpy(fitted).permute(2, 0, 1)]})
        labels = sample.pred_label
        figure = draw_tags(
            image,
            sample.tags,
            sample.pred_score[labels].tolist(),
            sample.score_maps[labels].numpy(),
        )
        drawn.append(out / f'{path.stem}.png')
        Image.fromarray(figure).save(drawn[-1])
    return drawn


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('work_dirs/demo'),
        help='folder to write to (default: work_dirs/demo)',
    )
    parser.add_argument(
        '--pictures', type=int, default=6, help='number of scenes to draw (default: 6)'
    )
    parser.add_argument(
        '--data',
        type=Path,
        default=ROOT / 'demo/data',
        help='data set written by demo/render.py (default: demo/data)',
    )
    parser.add_argument('--scenes', type=int, help='number of scenes (default: all)')
    args = parser.parse_args()
    metrics = ablation(args.out, args.data, args.scenes)
    (args.out / 'metrics.json').write_text(json.dumps(metrics, indent=2) + '\n')
    drawn = pictures(args.out / 'pictures', args.data, args.pictures)
    print(f'\nmAP or mIoU on {args.data} ({args.out / "metrics.json"}):')
    for row, value in metrics.items():
        print(f'  {row:12} {value:5.1f}')
    print(f'{len(drawn)} images in {args.out / "pictures"}')


if __name__ == '__main__':
    main()
