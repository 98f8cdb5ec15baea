"""Turn NUS-WIDE's label files into MMPretrain's annotation format.

Reads ``ImageList/TestImagelist.txt`` and, for each of the 81 concepts,
``Groundtruth/TrainTestLabels/Labels_<concept>_Test.txt`` with one 0 or 1 per line.

    python tools/dataset_converters/nus_wide.py data/nus_wide data/nus_wide/test.json
"""

import argparse
import json
from pathlib import Path

from mmtagclip.clip import Vocabulary
from mmtagclip.files import write_whole


def convert(root: Path, split: str, classes: tuple[str, ...]) -> dict:
    """Read one split.

    Args:
        root: Folder that holds ``ImageList`` and ``Groundtruth``.
        split: ``'Train'`` or ``'Test'``.
        classes: Concept names.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A label file does not hold one 0 or 1 per image.
    """

    def read(path: Path) -> list[str]:
        if not path.is_file():
            raise FileNotFoundError(f'no NUS-WIDE file at {path}')
        return path.read_text().split('\n')

    images = [
        line.strip().replace('\\', '/')
        for line in read(root / 'ImageList' / f'{split}Imagelist.txt')
        if line.strip()
    ]
    labels: list[list[int]] = [[] for _ in images]
    for label, concept in enumerate(classes):
        path = root / 'Groundtruth' / 'TrainTestLabels' / f'Labels_{concept}_{split}.txt'
        flags = [line.strip() for line in read(path) if line.strip()]
        if len(flags) != len(images):
            raise ValueError(
                f'{path} must hold a 0 or 1 for each of the {len(images)} images, but '
                f'it has {len(flags)} lines'
            )
        for number, flag in enumerate(flags, start=1):
            if flag not in ('0', '1'):
                raise ValueError(f'{path}, line {number} must be 0 or 1, not {flag!r}')
        for image, flag in enumerate(flags):
            if flag == '1':
                labels[image].append(label)
    return {
        'metainfo': {'classes': list(classes)},
        'data_list': [
            {'img_path': path, 'gt_label': label}
            for path, label in zip(images, labels, strict=True)
        ],
    }


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('root', type=Path, help='folder of NUS-WIDE')
    parser.add_argument('out', type=Path, help='annotation file to write')
    parser.add_argument('--split', choices=['Train', 'Test'], default='Test')
    args = parser.parse_args()
    tags = convert(args.root, args.split, Vocabulary.load('nus_wide').names)
    write_whole(args.out, json.dumps(tags).encode())
    print(f'{args.out}: {len(tags["data_list"])} images')


if __name__ == '__main__':
    main()
