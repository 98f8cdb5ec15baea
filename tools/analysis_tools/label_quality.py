r"""Compare pseudo labels with the real labels of the same images.

    python tools/analysis_tools/label_quality.py work_dirs/masks_demo/pseudo_labels \
        configs/pseudo_labels/fcn_vit-w128_demo_true-masks.py

Prints mIoU for masks, without the pixels that the pseudo masks leave out (255). Prints mAP,
precision and recall for tags; a missing tag scores 0.
"""

# First: what is imported below imports the frameworks, too, and has said their lines then.
from mmtagclip.frameworks import segmentation  # noqa: F401

# isort: split
import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from mmpretrain.evaluation.metrics import AveragePrecision
from mmseg.datasets.transforms import LoadAnnotations
from mmseg.evaluation import IoUMetric
from tqdm import tqdm

from mmtagclip.datasets.image_index import ImageIndex
from mmtagclip.engine.options import add_cfg_options
from mmtagclip.evaluation import present_map
from mmtagclip.jobs.pseudo_labels import read_pseudo_labels


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('labels', type=Path, help='folder of pseudo labels')
    parser.add_argument('config', help='config that trains on the real labels')
    add_cfg_options(parser)
    args = parser.parse_args()
    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options)
    init_default_scope(cfg.default_scope)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    classes = dataset.metainfo['classes']
    manifest, records = read_pseudo_labels(args.labels, classes)
    found = ImageIndex(args.labels, ((record.image, record) for record in records))
    compare = _masks if manifest.kind == 'masks' else _tags
    pairs = (
        (info, found.find(str(info['img_path'])))
        for info in tqdm(map(dataset.get_data_info, range(len(dataset))), total=len(dataset))
    )
    result = compare(
        [(info, record) for info, record in pairs if record.error is None], args.labels, classes
    )
    print('  '.join(f'{name}: {value:.2f}' for name, value in result.items()))


def _masks(pairs: Any, root: Path, classes: tuple[str, ...]) -> dict[str, float]:
    load, areas, left_out, pixels = LoadAnnotations(), [], 0, 0
    for info, record in pairs:
        real = torch.from_numpy(load({**info, 'seg_fields': []})['gt_seg_map'].astype(np.int64))
        pseudo = load(
            {
                **info,
                'seg_map_path': str(root / record.more['masks']),
                'label_map': None,
                'reduce_zero_label': False,
                'seg_fields': [],
            }
        )['gt_seg_map']
        unsure = torch.from_numpy(pseudo == 255) & (real != 255)
        left_out, pixels = left_out + int(unsure.sum()), pixels + int((real != 255).sum())
        real[unsure] = 255
        areas.append(
            IoUMetric.intersect_and_union(
                torch.from_numpy(pseudo.astype(np.int64)), real, len(classes), 255
            )
        )
    metrics = IoUMetric.total_area_to_metrics(
        *(sum(part) for part in zip(*areas, strict=True)), metrics=['mIoU']
    )
    return {
        'mIoU': 100 * float(np.nanmean(metrics['IoU'])),
        'pixels left out, %': 100 * left_out / pixels,
    }


def _tags(pairs: Any, root: Path, classes: tuple[str, ...]) -> dict[str, float]:
    scores, real = np.zeros((2, len(pairs), len(classes)))
    for row, (info, record) in enumerate(pairs):
        labels = [classes.index(tag) for tag in record.tags]
        scores[row, labels] = record.scores
        real[row, info['gt_label']] = 1
    hits = ((scores > 0) * real).sum()
    return {
        'mAP': float(AveragePrecision.calculate(torch.from_numpy(scores), torch.from_numpy(real))),
        'mAP_present': present_map(torch.from_numpy(scores), torch.from_numpy(real)),
        'precision': 100 * hits / (scores > 0).sum(),
        'recall': 100 * hits / real.sum(),
    }


if __name__ == '__main__':
    main()
