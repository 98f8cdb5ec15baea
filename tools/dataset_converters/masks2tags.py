r"""Turn pixel maps into tags: the classes that occur in each image.

Writes MMPretrain's annotation format (mmpretrain.MultiLabelDataset).

    python tools/dataset_converters/masks2tags.py data/coco/stuffthingmaps/val2017 \
        data/coco/annotations/stuff_tags_val2017.json \
        --classes cocostuff --values cocostuff_values
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.utils import track_iter_progress

from mmtagclip.clip import Vocabulary
from mmtagclip.clip.vocabulary import load_integers
from mmtagclip.files import write_whole
from mmtagclip.images import read_index_mask


def convert(
    masks: Path,
    classes: Sequence[str],
    values: Sequence[int],
    ignore: Sequence[int],
    suffix: str = '.jpg',
) -> dict:
    """Read the tags of a folder of index images (PNG).

    Args:
        masks: Folder of masks.
        classes: C class names.
        values: The pixel value of each class.
        ignore: Pixel values that belong to no class.
        suffix: Ending of the image files.

    Raises:
        FileNotFoundError: The folder has no PNG masks.
        ValueError: A mask is not an index image, or has an unknown value.
    """
    if len(values) != len(classes):
        raise ValueError(f'{len(classes)} classes, but {len(values)} pixel values')
    paths = sorted(masks.glob('*.png'))
    if not paths:
        raise FileNotFoundError(f'no PNG masks in {masks}')
    labels = {value: label for label, value in enumerate(values)}
    data_list = []
    for path in track_iter_progress(paths):
        present = set(np.unique(read_index_mask(path)).tolist()) - set(ignore)
        unknown = present - labels.keys()
        if unknown:
            raise ValueError(
                f'{path} has the pixel value {min(unknown)}, which belongs to no '
                'class; see --values and --ignore'
            )
        data_list.append(
            {'img_path': path.stem + suffix, 'gt_label': sorted(labels[value] for value in present)}
        )
    return {'metainfo': {'classes': list(classes)}, 'data_list': data_list}


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('masks', type=Path, help='folder of PNG masks')
    parser.add_argument('out', type=Path, help='annotation file to write')
    parser.add_argument(
        '--classes', required=True, help='built-in list of names, or a file with one class per line'
    )
    parser.add_argument(
        '--values',
        help='built-in list or file with the pixel value of each class (default: 0, 1, 2, ...)',
    )
    parser.add_argument(
        '--ignore',
        type=int,
        nargs='*',
        default=[255],
        help='pixel values that belong to no class (default: 255)',
    )
    parser.add_argument(
        '--suffix', default='.jpg', help='ending of the image files (default: .jpg)'
    )
    args = parser.parse_args()
    classes = Vocabulary.load(args.classes).names
    values = range(len(classes)) if args.values is None else load_integers(args.values)
    tags = convert(args.masks, classes, values, args.ignore, args.suffix)
    write_whole(args.out, json.dumps(tags).encode())
    print(f'\n{args.out}: {len(tags["data_list"])} images')


if __name__ == '__main__':
    main()
