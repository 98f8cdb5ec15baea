r"""Compare ways to name the classes: plain names, synonyms, descriptions, and a control.

    python tools/analysis_tools/compare_words.py configs/demo/tagclip_demo.py \
        --synonyms demo/data/synonyms.txt --descriptions demo/data/descriptions.json \
        --compound demo/data/compound.txt --auto demo/data/classes.txt imagenet12k

One row per way, with mAP and F1 of coarse scores, of the config's head (TagCLIP) and of PIAA, whose
classifier is fitted to the same images, without their labels. Each image is encoded once.

The control (WaffleCLIP) has prompts like those of descriptions, with random words and letters, the
same for all classes: what it gains, any prompts gain. SPARC is fitted to the same images, without
their labels; its scores are new ones, and their F1 at the same threshold says little. F1 is at the
threshold --k for all.
"""

# First: what is imported below imports MMPretrain, too, and has said its lines then.
from mmtagclip.frameworks import pretrain  # noqa: F401

# isort: split
import argparse
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, init_default_scope
from mmpretrain.evaluation import AveragePrecision, MultiLabelMetric
from torch import Tensor
from tqdm import tqdm

from mmtagclip import TagInferencer
from mmtagclip.apis.calibration import PROMPT
from mmtagclip.apis.inputs import list_images
from mmtagclip.clip import Descriptions, Encoded, Names, Vocabulary
from mmtagclip.clip.descriptions import JOINS
from mmtagclip.engine.options import add_cfg_options
from mmtagclip.models import (
    AutoNames,
    GaussianClassifier,
    PIAAHead,
    TagCLIP,
    TagCLIPHead,
    TagRule,
)
from mmtagclip.models.taggers.calibration import (
    Calibration,
    fit_tensors,
    read_compound_prompts,
    relative_scores,
)
from mmtagclip.models.taggers.open_names import OpenNames


def waffle(
    names: Sequence[str],
    descriptors: Iterable[str],
    words: Sequence[str],
    rounds: int,
    random: np.random.RandomState,
) -> list[str]:
    """Clauses without a meaning, for all classes: words by turns with letters (WaffleCLIP).

    Args:
        names: Of the classes; they decide how long the clauses are.
        descriptors: All that are said about the classes; they decide which letters occur.
        words: From which words are drawn.
        rounds: How many clauses of each kind.
        random: Draws in the order of the released code.
    """
    spoken = [name.replace('_', ' ').split(' ') for name in names]
    count = max(1, round(float(np.mean([len(one) for one in spoken]))))
    size = round(float(np.mean([np.mean([len(word) for word in one]) for one in spoken])))
    groups = round(float(np.mean([name.count(' ') for name in names]))) + 1
    letters = math.ceil(np.mean([max(map(len, name.split(' '))) for name in names]))
    letters += groups - letters % groups
    characters = np.unique([one for text in descriptors for one in text if one not in ' ,.'])

    def draw(choices: Sequence[str] | np.ndarray) -> str:
        return str(random.choice(choices, 1, replace=False)[0])

    clauses: dict[str, list[str]] = {name: [] for name in names}
    for drawn in clauses.values():
        for _ in range(rounds):
            drawn.append(' '.join(draw(words)[:size] for _ in range(count)))
            groups_drawn = [
                ''.join(draw(characters) for _ in range(letters // groups)) for _ in range(groups)
            ]
            drawn.append(', '.join(groups_drawn))
    return [f'which has {one}' for one in clauses[str(random.choice(list(names)))]]


def control(
    vocabulary: Vocabulary, descriptions: Descriptions, rounds: int, seed: int
) -> Descriptions:
    """The control of descriptions: clauses without a meaning, as many as published."""
    names = Vocabulary.load('imagenet12k').names
    words = [name for name in names if name.isalpha() and name.islower()]
    said = [one for texts in descriptions.source.values() for one in texts]
    random = np.random.RandomState(seed)
    clauses = waffle(vocabulary.names, said, words, rounds, random)
    return Descriptions(
        dict.fromkeys(vocabulary.names, tuple(clauses)),
        style='plain',
        prompt='A photo of a {name}, {clause}.',
    )


def ways(tagger: TagCLIP, args: argparse.Namespace) -> Iterator[tuple[str, Names]]:
    """Names of the tagger's classes, by what the row is called."""
    yield 'plain names', tagger.names
    if args.synonyms is not None:
        yield 'synonyms', tagger.names_for(Vocabulary.load(args.synonyms))
    if args.descriptions is None:
        return
    said = Descriptions.of(args.descriptions)
    for join in JOINS:
        joined = replace(said, join=join, clusters=args.clusters)
        yield f'descriptions, {join}', tagger.names_for(descriptions=joined)
    noise = control(tagger.vocabulary, said, args.rounds, args.seed)
    yield 'control (Waffle)', tagger.names_for(descriptions=noise)


@torch.no_grad()
def encode(inferencer: TagInferencer, paths: Sequence[str]) -> list[Encoded]:
    """Encode images one by one."""
    encoded = []
    for image in tqdm(list_images(paths), desc='Encoding images'):
        batch = inferencer.model.data_preprocessor(
            pseudo_collate([inferencer.load(image).data]), False
        )
        encoded.append(inferencer.model.encode(batch['inputs'][0][None]))
    return encoded


@torch.no_grad()
def scores(tagger: TagCLIP, names: Names, encoded: Sequence[Encoded]) -> dict[str, Tensor]:
    """Scores ``(n, F)`` of all images, by the column of the table."""
    encoder = tagger.encoder
    heads = {'coarse': TagCLIPHead(), 'TagCLIP': tagger.head}
    classifier = GaussianClassifier()
    bank = classifier.bank(encoder.patch_text(names.text))
    for one in encoded:
        bank.add(one.features.patches.flatten(0, 1))
    classifier.fit(bank)
    heads['PIAA'] = PIAAHead(classifier)
    return {
        column: torch.cat([head(one, names).scores for one in encoded])
        for column, head in heads.items()
    }


@torch.no_grad()
def calibrated(
    tagger: TagCLIP,
    found: Mapping[str, Tensor],
    encoded: Sequence[Encoded],
    compound: str | None,
) -> dict[str, Tensor]:
    """Scores ``(n, F)`` after SPARC, fitted to the same images, by the column of the table.

    Args:
        tagger: The tagger.
        found: Scores before.
        encoded: The images.
        compound: File of compound prompts; None for none.
    """
    encoder, names = tagger.encoder, tagger.vocabulary
    tokens = torch.cat([encoder.ordinary_class_token(one.features) for one in encoded]).double()
    prompts: list[str] = []
    member = torch.zeros(len(names), 0, dtype=torch.bool)
    simple = beside = tokens.new_zeros(0, tokens.shape[1])
    relative = tokens.new_zeros(len(tokens), 0)
    if compound is not None:
        prompts, member = read_compound_prompts(compound, names.phrases)
        simple, beside = (
            encoder.encode_names(Vocabulary(tuple((one,) for one in texts)), (PROMPT,)).to(tokens)
            for texts in ([phrases[0] for phrases in names.phrases], prompts)
        )
        relative = relative_scores(tokens @ beside.T, tokens @ simple.T)
    texts = {'text': tagger.text, 'simple': simple, 'compound': beside}
    results = {}
    for column, scores in found.items():
        fitted = fit_tensors(relative_scores(scores.double()), relative, member, names.names)
        results[column] = Calibration({**fitted, **texts}, {})(scores.double(), tokens)
    return {column: one.sigmoid().float() for column, one in results.items()}


def print_chosen(
    tagger: TagCLIP, encoded: Sequence[Encoded], target: Tensor, sources: Sequence[str]
) -> None:
    """Print how many of the true tags are among the names that are chosen for an image."""
    own = [{one.lower() for one in phrases} for phrases in tagger.vocabulary.phrases]
    print('\n| names of | true tags among the 10 nearest names | 20 | 50 |\n|---|---|---|---|')
    for source in sources:
        auto = OpenNames(
            AutoNames(source, count=50), tagger.encoder, Vocabulary(()), tagger.templates
        )
        phrases = [{one.lower() for one in names} for names in auto.vocabulary.phrases]
        hits = dict.fromkeys((10, 20, 50), 0)
        for one, row in zip(encoded, target, strict=True):
            nearest = auto.nearest(tagger.encoder.ordinary_class_token(one.features)[0])
            for count in hits:
                chosen = set().union(*(phrases[label] for label in nearest[:count]))
                hits[count] += sum(bool(own[tag] & chosen) for tag in row.nonzero().flatten())
        cells = [f'{100 * hit / int(target.sum()):.1f}' for hit in hits.values()]
        print(f'| {source} ({len(phrases)}) | ' + ' | '.join(cells) + ' |')


def figures(pred: Tensor, target: Tensor, k: float) -> tuple[float, float]:
    """MAP and F1 (over all tags), in per cent.

    Args:
        pred: ``(n, F)`` scores.
        target: ``(n, F)`` bool.
        k: Relative threshold of the tags.
    """
    average = AveragePrecision.calculate(pred, target.long())
    tags = TagRule(k).mask(pred).float()
    f1 = MultiLabelMetric.calculate(tags, target.long(), thr=0.5, average='micro')[2]
    return float(average), float(f1)


def print_table(rows: Mapping[str, Mapping[str, Tensor]], target: Tensor, k: float) -> None:
    """Print one row per way, with mAP and F1 of each column."""
    columns = list(next(iter(rows.values())))
    print('| | ' + ' | '.join(f'{one}: mAP | F1' for one in columns) + ' |')
    print('|---|' + '---|---|' * len(columns))
    for way, found in rows.items():
        cells = [f'{value:.1f}' for one in columns for value in figures(found[one], target, k)]
        print(f'| {way} | ' + ' | '.join(cells) + ' |')


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config that tests a tagger')
    parser.add_argument('--synonyms', help='the same classes with synonyms')
    parser.add_argument('--descriptions', help='JSON or YAML with descriptors of each class')
    parser.add_argument('--compound', help='file of compound prompts for SPARC')
    parser.add_argument(
        '--auto', nargs='+', metavar='LIST', help='lists from which names are chosen for each image'
    )
    parser.add_argument('--clusters', type=int, default=112, help='of TSE (default: 112)')
    parser.add_argument(
        '--rounds', type=int, default=15, help='of the control, two prompts each (default: 15)'
    )
    parser.add_argument('--k', type=float, default=0.3, help='threshold of F1 (default: 0.3)')
    parser.add_argument('--seed', type=int, default=0, help='of the control (default: 0)')
    parser.add_argument('--images', type=int, help='use only the first images of the data set')
    add_cfg_options(parser)
    args = parser.parse_args()
    config = Config.fromfile(Path(args.config))
    config.merge_from_dict(args.cfg_options)
    inferencer = TagInferencer(config, show_progress=False)
    inferencer.warns = False
    init_default_scope(config.default_scope)
    dataset = DATASETS.build(config.test_dataloader.dataset)
    count = min(args.images or len(dataset), len(dataset))
    entries = [dataset.get_data_info(index) for index in range(count)]
    tagger = inferencer.model
    target = torch.zeros(count, len(tagger.vocabulary), dtype=torch.bool)
    for row, entry in zip(target, entries, strict=True):
        row[entry['gt_label']] = True
    encoded = encode(inferencer, [entry['img_path'] for entry in entries])
    rows = {}
    for way, names in ways(tagger, args):
        rows[way] = scores(tagger, names, encoded)
        print(f'{way}: done', flush=True)
    plain = next(iter(rows))
    rows[f'{plain}, SPARC'] = calibrated(tagger, rows[plain], encoded, None)
    if args.compound is not None:
        way = f'{plain}, SPARC with compound prompts'
        rows[way] = calibrated(tagger, rows[plain], encoded, args.compound)
    print_table(rows, target, args.k)
    if args.auto:
        print_chosen(tagger, encoded, target, args.auto)


if __name__ == '__main__':
    main()
