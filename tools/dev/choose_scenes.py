"""Measure each of the demo's scenes, and list those that come out right.

python tools/dev/choose_scenes.py          # writes tools/dev/demo_scenes.json
python tools/dev/choose_scenes.py --check  # exits with 1 if the figures moved

A scene is right if its tags are exactly those of the ground truth, and by each of the models that
`mmtagclip demo` shows, the IoU of each of its masks is at least 0.4, and no mask of another class
covers 0.05 % of the image. The demo, the web page and the README show right scenes only, and say
so.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmtagclip.apis import SegInferencer, TagInferencer
from mmtagclip.cli.common import DEMO, DEMO_MASKS

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / 'demo/data'
RECORD = Path(__file__).with_name('demo_scenes.json')
IGNORED, RIGHT, SEEN = 255, 0.4, 0.0005


def measure() -> dict[str, Any]:
    """Figures of all scenes together, and of each."""
    names = (DATA / 'classes.txt').read_text().split()
    ids = (DATA / 'ImageSets/Segmentation/test.txt').read_text().split()
    paths = [DATA / f'JPEGImages/{one}.jpg' for one in ids]
    truths = [np.asarray(Image.open(DATA / f'SegmentationClass/{one}.png')) for one in ids]
    present = [{names[label - 1] for label in np.unique(one) if 0 < label < 255} for one in truths]
    tagger = TagInferencer(DEMO['tag'], show_progress=False)
    scenes: dict[str, dict[str, Any]] = {}
    for one, true, result in zip(ids, present, tagger.stream(paths), strict=True):
        found = set(result.tags)
        scenes[one] = {
            'objects': len(true),
            'missed': sorted(true - found),
            'false': sorted(found - true),
            'iou': {},
            'extra': {},
        }
    both = sum(one['objects'] - len(one['missed']) for one in scenes.values())
    either = sum(one['objects'] + len(one['false']) for one in scenes.values())
    miou = {}
    for model in DEMO_MASKS.values():
        confusion = np.zeros((len(names) + 1,) * 2, np.int64)
        segmentor = SegInferencer(model, show_progress=False)
        results = zip(ids, truths, present, segmentor.stream(paths), strict=True)
        for one, truth, true, result in results:
            seen = truth != IGNORED
            here = np.zeros_like(confusion)
            np.add.at(here, (truth[seen], result.mask[seen]), 1)
            confusion += here
            overlaps = iou(here)
            scenes[one]['iou'][model] = {
                name: round(float(overlaps[names.index(name) + 1]), 2) for name in sorted(true)
            }
            shares = here.sum(0)[1:] / here.sum()
            scenes[one]['extra'][model] = sorted(
                names[label] for label in np.flatnonzero(shares >= SEEN) if names[label] not in true
            )
        miou[model] = round(100 * float(np.nanmean(iou(confusion))), 1)
    return {
        'tags': DEMO['tag'],
        'f1': round(200 * both / (both + either), 1),
        'miou': miou,
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
    worst = min(value for one in scene['iou'].values() for value in one.values())
    wrong = scene['missed'] or scene['false'] or any(scene['extra'].values())
    return not wrong and worst >= RIGHT


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
