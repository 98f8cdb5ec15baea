"""Measure the demo model, step by step of TagCLIP, on a set that ``demo/render.py`` wrote.

For instance::

    python demo/measure.py demo/data

Prints mAP of the class token, of the coarse patch scores, and of what DMAR and CWR make of
them, as JSON. ``tools/test.py`` with a config does the same for one row at a time.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import torch
from PIL import Image

import mmtagclip.models  # noqa: F401
from mmtagclip.registry import MODELS

ROWS = {
    'class_token': {'type': 'mmtagclip.ClassTokenHead'},
    'coarse': {'type': 'mmtagclip.TagCLIPHead'},
    'dmar': {
        'type': 'mmtagclip.TagCLIPHead',
        'dmar': {'type': 'mmtagclip.DMAR', 'layers': (8, 9, 10)},
    },
    'cwr': {
        'type': 'mmtagclip.TagCLIPHead',
        'dmar': {'type': 'mmtagclip.DMAR', 'layers': (8, 9, 10)},
        'cwr': {'type': 'mmtagclip.CWR'},
    },
}


def average_precision(scores: np.ndarray, labels: np.ndarray) -> float:
    """Mean of the precision at each positive; 0 if there is none."""
    hits = labels[np.argsort(-scores, kind='stable')]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precision[hits].mean()) if hits.any() else 0.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description='Measure the demo model, row by row.')
    parser.add_argument('data', type=Path, help='folder that demo/render.py wrote')
    parser.add_argument('--model', type=Path, default=Path(__file__).resolve().parent / 'model')
    parser.add_argument('--rows', nargs='+', choices=tuple(ROWS), default=tuple(ROWS))
    parser.add_argument('--threads', type=int, help='CPU threads')
    parser.add_argument('--per-class', action='store_true', help='print AP of every class, too')
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)

    classes = (args.data / 'classes.txt').read_text().split('\n')[:-1]
    names = (args.data / 'ImageSets/Main/test.txt').read_text().split()
    encoder = MODELS.build({'type': 'mmtagclip.CLIPEncoder', 'model': f'local-dir:{args.model}'})
    taggers = [
        MODELS.build(
            {
                'type': 'mmtagclip.TagCLIP',
                'encoder': encoder,
                'head': ROWS[row],
                'classes': str(args.data / 'classes.txt'),
                'background': str(args.data / 'background.txt'),
                'data_preprocessor': {'type': 'mmtagclip.CLIPDataPreprocessor', 'to_rgb': False},
            }
        ).eval()
        for row in args.rows
    ]
    labels = np.zeros((len(names), len(classes)), bool)
    scores = np.zeros((len(taggers), *labels.shape), np.float32)
    for i, name in enumerate(names):
        root = ElementTree.parse(args.data / f'Annotations/{name}.xml').getroot()
        labels[i, [classes.index(node.findtext('name', '')) for node in root.iter('object')]] = True
        image = Image.open(args.data / f'JPEGImages/{name}.jpg').convert('RGB')
        size = [-(-side // 16) * 16 for side in image.size]
        pixels = np.asarray(image.resize(size, Image.Resampling.BICUBIC))
        tensor = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
        for tagger, out in zip(taggers, scores, strict=True):
            inputs = tagger.data_preprocessor({'inputs': [tensor], 'data_samples': None})['inputs']
            out[i] = tagger(inputs, mode='tensor')[0].numpy()
    ap = {
        row: [100 * average_precision(s, y) for s, y in zip(out.T, labels.T, strict=True)]
        for row, out in zip(args.rows, scores, strict=True)
    }
    result: dict[str, object] = {row: round(float(np.mean(aps)), 2) for row, aps in ap.items()}
    if args.per_class:
        result['per_class'] = {
            row: dict(zip(classes, np.round(values, 1).tolist(), strict=True))
            for row, values in ap.items()
        }
    print(json.dumps(result, indent=2))


if __name__ == '__main__':
    main()
