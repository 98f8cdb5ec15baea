"""Compare CLS-SEG's CAMs and post-processors on the demo's scenes, in one table.

    python tools/analysis_tools/compare_cams.py --out work_dirs/cams.json

Each scene is encoded once for all cells. Cells are the mIoU with the tagger's tags and with the
true tags. Seconds are CPU seconds per scene, of one thread: encoding with the tags, the CAM with
its affinity and planes, and the post-processor.
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from mmtagclip.files import write_whole
from mmtagclip.frameworks import import_scope
from mmtagclip.models import Tag, TagCLIP
from mmtagclip.models.segmentors.base import EncodedImage
from mmtagclip.registry import MODELS

ROOT = Path(__file__).resolve().parents[2]
# Row of the table, its config in configs/demo, and what differs from it.
CAMS: dict[str, tuple[str, dict[str, Any]]] = {
    'gradient, boxes at 0.4 (as published)': ('cls-seg_demo', {}),
    'gradient, boxes at 0.79': ('cls-seg_demo', {'affinity': {'box_threshold': 0.79}}),
    "surgery on the tagger's patches": ('cls-seg_demo_surgery', {}),
    'surgery on SVC': ('cls-seg_demo_svc', {}),
    'surgery on SVC, as published with ExCEL': (
        'cls-seg_demo_svc',
        {
            'cam': {'across_tokens': True},
            'affinity': {'layers': range(6, 12), 'layer_weights': [1, 4, 4, 4, 4, 4]},
        },
    ),
}
POSTS = {'none': None, 'CRF': 'DenseCRF', 'PAMR': 'PAMR', 'PAR': 'PAR'}
TAGS = ('own tags', 'true tags')


def build(row: str, tagger: TagCLIP) -> Any:
    """The segmentor of a row, which shares the tagger."""
    name, changes = CAMS[row]
    cfg = Config.fromfile(ROOT / f'configs/demo/{name}.py').model
    for key, change in changes.items():
        cfg[key].update(change)
    cfg.tagger = tagger
    return MODELS.build(cfg).eval()


class Cells:
    """Confusion matrices and CPU seconds of all cells.

    Args:
        num_labels: Number of labels, the background among them.
    """

    def __init__(self, num_labels: int) -> None:
        self.num_labels = num_labels
        self.pixels: dict[tuple[str, ...], np.ndarray] = defaultdict(
            lambda: np.zeros((num_labels, num_labels), dtype=np.int64)
        )
        self.seconds: dict[str, list[float]] = defaultdict(list)

    def add(self, key: tuple[str, ...], labels: np.ndarray, truth: np.ndarray) -> None:
        """Count the pixels of one scene."""
        both = truth.astype(np.int64) * self.num_labels + labels
        count = np.bincount(both[truth != 255], minlength=self.num_labels**2)
        self.pixels[key] += count.reshape(self.num_labels, -1)

    def timed(self, key: str, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function and note its CPU seconds."""
        start = time.process_time()
        result = function(*args)
        self.seconds[key].append(time.process_time() - start)
        return result

    def results(self) -> dict[str, Any]:
        """MIoU in percent over the labels that occur, and mean seconds."""
        found: dict[str, Any] = {}
        for (row, tags, post), pixels in self.pixels.items():
            union = pixels.sum(0) + pixels.sum(1) - pixels.diagonal()
            iou = pixels.diagonal()[union > 0] / union[union > 0]
            found.setdefault(row, {}).setdefault(tags, {})[post] = round(100 * iou.mean(), 1)
        seconds = {key: round(sum(each) / len(each), 3) for key, each in self.seconds.items()}
        return {'mIoU': found, 'seconds': seconds}


@torch.no_grad()
def compare(images: int | None) -> dict[str, Any]:
    """Compute all cells of the first scenes."""
    import_scope('mmseg')
    init_default_scope('mmseg')
    cfg = Config.fromfile(ROOT / 'configs/demo/cls-seg_demo_pamr.py')
    cfg.test_dataloader.update(num_workers=0, persistent_workers=False)
    cfg.test_dataloader.dataset.indices = images
    loader = Runner.build_dataloader(cfg.test_dataloader)
    tagger = MODELS.build(cfg.model.tagger).eval()
    segmentors = {row: build(row, tagger) for row in CAMS}
    posts = {
        name: None if kind is None else MODELS.build({'type': f'mmtagclip.{kind}'})
        for name, kind in POSTS.items()
    }
    layers = [one for model in segmentors.values() for one in model.affinity.layer_sets]
    inputs = sorted({one for model in segmentors.values() for one in model.cam.block_inputs})
    first = next(iter(segmentors.values()))
    cells = Cells(first.names.num_labels)
    for data in loader:
        data = first.data_preprocessor(data)
        for image, sample in zip(data['inputs'], data['data_samples'], strict=True):
            encoded = cells.timed('encoder', tagger.encode, image[None], layers, inputs)
            scores = cells.timed('tags', tagger.head, encoded, tagger.names)
            truth = sample.gt_sem_seg.data[0].numpy()
            tags = {
                'own tags': [tag.label for tag in tagger.head.rule.tags(scores.scores[0])],
                'true tags': [label - 1 for label in np.unique(truth) if 0 < label < 255],
            }
            one = EncodedImage.of(sample, image, encoded, (encoded.features,))
            for row, model in segmentors.items():
                for source, labels in tags.items():
                    wanted = [Tag(label, None) for label in labels]
                    masks = cells.timed(row, model.segment, one, model.names, wanted, None, True)
                    table = np.array(masks.plane_labels)
                    for name, post in posts.items():
                        planes = masks.planes
                        if post is not None and labels:
                            planes = cells.timed(name, post, masks.planes, one.original)
                        cells.add((row, source, name), table[planes.argmax(0).numpy()], truth)
    return {'images': len(loader.dataset), **cells.results()}


def table(results: dict[str, Any]) -> str:
    """Format all cells as Markdown."""
    seconds = results['seconds']
    columns = [f'{source}, {post}' for source in TAGS for post in POSTS]
    lines = [f'| mIoU | {" | ".join(columns)} | seconds |', '|---' * (len(columns) + 2) + '|']
    for row, cells in results['mIoU'].items():
        values = [f'{cells[source][post]:.1f}' for source in TAGS for post in POSTS]
        lines.append(f'| {row} | {" | ".join(values)} | {seconds[row]:.3f} |')
    others = ', '.join(f'{key} {value:.3f}' for key, value in seconds.items() if key not in CAMS)
    return '\n'.join([*lines, '', f'Seconds per scene: {others}'])


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', type=Path, required=True, help='JSON file to write')
    parser.add_argument(
        '--images', type=int, help='number of scenes, from the first (default: all)'
    )
    args = parser.parse_args()
    results = compare(args.images)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(args.out, json.dumps(results, indent=2).encode(), b'\n')
    print(table(results))


if __name__ == '__main__':
    main()
