r"""Change the values of pixel maps: select, merge or renumber classes.

COCO-Stuff's 171 classes as its 27 groups:

    python tools/dataset_converters/remap_masks.py data/coco/stuffthingmaps/val2017 \
        data/coco/stuff27/val2017 --values cocostuff_values --labels cocostuff_groups

Panoptic category ids as COCO-Object, where 0 is the background:

    python tools/dataset_converters/remap_masks.py PANOPTIC OUT \
        --values coco_values --first 1 --other 0
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.utils import track_iter_progress

from mmtagclip.clip.vocabulary import load_integers
from mmtagclip.files import write_whole
from mmtagclip.images import read_index_mask
from mmtagclip.labels import mask_png


def convert(
    masks: Path, out: Path, values: Sequence[int], labels: Sequence[int], other: int = 255
) -> int:
    """Remap a folder of index images (PNG).

    Args:
        masks: Folder of masks.
        out: Folder to write to, under the same file names.
        values: Pixel values to change.
        labels: New value of each.
        other: New value of all other pixels.

    Returns:
        The number of masks.

    Raises:
        FileNotFoundError: The folder has no PNG masks.
        ValueError: ``values`` and ``labels`` differ in length, or a mask is not an
            index image.
    """
    if len(values) != len(labels):
        raise ValueError(f'{len(values)} pixel values, but {len(labels)} labels')
    paths = sorted(masks.glob('*.png'))
    if not paths:
        raise FileNotFoundError(f'no PNG masks in {masks}')
    table = np.full(65536, other, dtype=np.uint8)
    table[list(values)] = labels
    out.mkdir(parents=True, exist_ok=True)
    for path in track_iter_progress(paths):
        write_whole(out / path.name, mask_png(table[read_index_mask(path)]))
    return len(paths)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('masks', type=Path, help='folder of PNG masks')
    parser.add_argument('out', type=Path, help='folder to write')
    parser.add_argument(
        '--values', required=True, help='built-in list or file with the pixel values to change'
    )
    parser.add_argument(
        '--labels',
        help='built-in list or file with their new values (default: counted from --first)',
    )
    parser.add_argument('--first', type=int, default=0, help='new value of the first')
    parser.add_argument('--other', type=int, default=255, help='new value of all other pixels')
    args = parser.parse_args()
    values = load_integers(args.values)
    labels = (
        load_integers(args.labels) if args.labels else range(args.first, args.first + len(values))
    )
    print(f'\n{args.out}: {convert(args.masks, args.out, values, labels, args.other)} masks')


if __name__ == '__main__':
    main()
