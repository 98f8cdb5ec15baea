r"""Measure which floor on the scores parts tags from noise.

    python tools/analysis_tools/noise_floor.py configs/demo/tagclip_demo.py

The floor is a multiple of 1 / C, the score that each of the C names (classes and background)
would have if all were equally likely. Each row of the table shows one multiple:

- how many of the tags that an image's labels confirm are kept, and precision, recall and F1;
- how many classes are kept that an image shows, if they compete with one other name only (C = 2);
- how many images get no tag where none is right: black, white and grey ones, noise, and the
  config's images if only classes are looked for that they do not show.
"""

# First: what is imported below imports MMPretrain, too, and has said its lines then.
from mmtagclip.frameworks import pretrain  # noqa: F401

# isort: split
import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from mmpretrain.evaluation import MultiLabelMetric
from tqdm import tqdm

from mmtagclip import TagInferencer
from mmtagclip.engine.options import add_cfg_options
from mmtagclip.models import GaussianClassifier, TagRule

MULTIPLES = (0.0, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0)
SIZES = ((160, 224), (256, 256), (384, 192), (320, 384))


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config that tests a tagger')
    parser.add_argument('checkpoint', nargs='?', help='of a fitted classifier (PIAA)')
    parser.add_argument('--images', type=int, help='use only the first images of the data set')
    parser.add_argument('--noise', type=int, default=40, help='noise images (default: 40)')
    add_cfg_options(parser)
    args = parser.parse_args()
    config = Config.fromfile(args.config)
    config.merge_from_dict(args.cfg_options)
    tagger = TagInferencer(config, args.checkpoint, show_progress=False)
    kinds = {
        'black': blank_images(0),
        'white': blank_images(255),
        'grey': blank_images(128),
        'noise': noise_images(args.noise),
    }
    scores = {kind: scores_of(tagger, images) for kind, images in kinds.items()}
    init_default_scope(config.default_scope)
    *found, labels = scene_scores(tagger, config, args.images)
    scores |= dict(zip(('scenes', 'absent', 'pairs'), found, strict=True))
    print_table(tagger.model, scores, labels)


def blank_images(value: int) -> list[np.ndarray]:
    """Images of one colour, ``(H, W, 3)`` uint8, in several sizes."""
    return [np.full((*size, 3), value, np.uint8) for size in SIZES]


def noise_images(count: int) -> list[np.ndarray]:
    """Random images: independent pixels, and blurred ones, by turns."""
    images = []
    for seed in range(count):
        random = np.random.RandomState(seed)
        height, width = SIZES[seed % len(SIZES)]
        step = (1, 8, 32, 64)[seed // len(SIZES) % 4]  # in pixels
        small = random.randint(0, 256, (height // step, width // step, 3), dtype=np.uint8)
        images.append(small.repeat(step, axis=0).repeat(step, axis=1))
    return images


def scores_of(tagger: TagInferencer, images: Any, **names: Sequence[str]) -> list[np.ndarray]:
    """Scores of every class, one array per image."""
    return [result.scores for result in tagger(images, min_score=0.0, **names)]


def scene_scores(
    tagger: TagInferencer, config: Config, count: int | None
) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Scores of the data set's images.

    Returns:
        Scores for all classes; for those that the image does not show; of one that it shows
        beside one that it does not (without a background); and the labels ``(F,)`` bool. The
        third is empty for a fitted classifier, whose classes can't be chosen; its second are
        the scores of the classes that the image does not show, beside those that it does.
    """
    dataset = DATASETS.build(config.test_dataloader.dataset)
    scenes, absent, pairs, labels = [], [], [], []
    model, random = tagger.model, np.random.RandomState(0)
    fixed = any(isinstance(part, GaussianClassifier) for part in model.modules())
    for index in tqdm(range(min(count or len(dataset), len(dataset)))):
        info = dataset.get_data_info(index)
        shown = np.isin(np.arange(len(model.vocabulary)), info['gt_label'])
        scenes += scores_of(tagger, info['img_path'])
        labels.append(shown)
        if fixed:
            absent.append(np.where(shown, 0, scenes[-1]))
            continue
        phrases = np.empty(len(shown), object)
        phrases[:] = model.vocabulary.phrases
        absent += scores_of(tagger, info['img_path'], classes=list(phrases[~shown]))
        if shown.any():
            pair = [random.choice(phrases[shown]), random.choice(phrases[~shown])]
            (both,) = scores_of(tagger, info['img_path'], classes=pair, background=[])
            pairs.append(both[:1])
    return scenes, absent, pairs, labels


def print_table(model: Any, scores: dict[str, list[np.ndarray]], labels: list[np.ndarray]) -> None:
    """Print one row per multiple."""
    chance = 1 / len(model.text)
    print(f'C = {len(model.text)} names, 1 / C = {chance:.4f}')
    for kind, arrays in scores.items():
        if arrays:
            best = np.quantile([one.max() for one in arrays], (0, 0.1, 0.5, 0.9, 1))
            found = ', '.join(f'{value:.2g}' for value in best)
            print(f'best score, {kind}: {found} (lowest, 10 %, median, 90 %, highest)')
    pred, target = torch.from_numpy(np.stack(scores['scenes'])), torch.tensor(np.stack(labels))
    right = TagRule(model.head.threshold).mask(pred) & target
    untagged = ('black', 'white', 'grey', 'noise', 'absent')
    columns = ('floor', 'kept', 'precision', 'recall', 'F1', 'kept of 2', *untagged)
    print('| ' + ' | '.join(columns) + ' |')
    for multiple in MULTIPLES:
        rule = TagRule(model.head.threshold, min(multiple * chance, 1.0))
        tags = rule.mask(pred)
        metrics = MultiLabelMetric.calculate(tags.float(), target.long(), thr=0.5, average='micro')
        figures = [100 * float((tags & right).sum() / right.sum())]
        figures += [float(one) for one in metrics[:3]]
        pairs = np.array(scores['pairs'])
        figures.append(100 * float((pairs >= multiple / 2).mean()) if len(pairs) else np.nan)
        for kind in untagged:
            none = [not len(rule.labels(torch.from_numpy(one))) for one in scores[kind]]
            figures.append(100 * float(np.mean(none)))
        print(f'| {multiple:g} / C | ' + ' | '.join(f'{one:.1f}' for one in figures) + ' |')


if __name__ == '__main__':
    main()
