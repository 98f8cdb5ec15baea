"""Measure each of the demo's scenes, and list those that come out right.

python tools/dev/choose_scenes.py          # writes tools/dev/demo_scenes.json
python tools/dev/choose_scenes.py --check  # exits with 1 if the figures moved

A scene is right if its tags are exactly those of the ground truth, and the IoU of each of its masks
is at least 0.35. `mmtagclip demo`, the web page and the README show right scenes only, and say so.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmtagclip.apis import SegInferencer, TagInferencer
from mmtagclip.cli.common import DEMO

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / 'demo/data'
RECORD = Path(__file__).with_name('demo_scenes.json')
IGNORED, RIGHT = 255, 0.35


def measure() -> dict[str, Any]:
    """Figures of all scenes together, and of each."""
    names = (DATA / 'classes.txt').read_text().split()
    ids = (DATA / 'ImageSets/Segmentation/test.txt').read_text().split()
    paths = [DATA / f'JPEGImages/{one}.jpg' for one in ids]
    tagger = TagInferencer(DEMO['tag'], show_progress=False)
    segmentor = SegInferencer(DEMO['segment'], show_progress=False)
    threshold = segmentor.model.tagger.head.threshold
    scenes = {}
    confusion = np.zeros((len(names) + 1,) * 2, np.int64)
    counts = np.zeros(3, np.int64)
    results = zip(
        ids, tagger.stream(paths, threshold=threshold), segmentor.stream(paths), strict=True
    )
    for one, tagged, masks in results:
        with Image.open(DATA / f'SegmentationClass/{one}.png') as file:
            truth = np.array(file)
        seen = truth != IGNORED
        here = np.zeros_like(confusion)
        np.add.at(here, (truth[seen], masks.mask[seen]), 1)
        confusion += here
        true = {names[label - 1] for label in np.unique(truth[seen]).tolist() if label}
        found = set(tagged.tags)
        counts += len(found & true), len(found), len(true)
        overlaps = iou(here)
        scenes[one] = {
            'objects': len(true),
            'missed': sorted(true - found),
            'false': sorted(found - true),
            'iou': {
                name: round(float(overlaps[names.index(name) + 1]), 2) for name in sorted(true)
            },
        }
    both, found, true = counts.tolist()
    return {
        'tags': f'{DEMO["tag"]}, threshold {threshold}',
        'masks': DEMO['segment'],
        'f1': round(200 * both / (found + true), 1),
        'miou': round(100 * float(np.nanmean(iou(confusion))), 1),
        'exact_tags': sum(not (one['missed'] or one['false']) for one in scenes.values()),
        'right': [one for one, scene in scenes.items() if is_right(scene)],
        'scenes': scenes,
    }


def iou(confusion: np.ndarray) -> np.ndarray:
    """IoU of each label; NaN where it is neither in the truth nor in the mask."""
    hits = confusion.diagonal().astype(float)
    union = confusion.sum(0) + confusion.sum(1) - hits
    return np.divide(hits, union, out=np.full(len(hits), np.nan), where=union > 0)


def is_right(scene: dict[str, Any]) -> bool:
    """Whether a scene's tags are exact and its masks good."""
    return not (scene['missed'] or scene['false']) and min(scene['iou'].values()) >= RIGHT


def main() -> int:
    """Run the script."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--check', action='store_true', help='change nothing; exit 1 if it moved')
    args = parser.parse_args()
    figures = measure()
    scenes = ',\n  '.join(
        f'{json.dumps(one)}: {json.dumps(scene)}' for one, scene in figures.pop('scenes').items()
    )
    text = f'{json.dumps(figures, indent=1)[:-2]},\n "scenes": {{\n  {scenes}\n }}\n}}\n'
    if args.check:
        return int(not RECORD.is_file() or text != RECORD.read_text())
    RECORD.write_text(text)
    return 0


if __name__ == '__main__':
    sys.exit(main())
