"""Paint the objects of a COCO instances file into index masks (COCO-Object: 0 is background).

Smaller objects are painted over larger ones.

    python tools/dataset_converters/coco_object.py \
        data/coco/annotations/instances_val2017.json data/coco/objects/val2017
"""

import argparse
from pathlib import Path

import numpy as np
from mmengine.utils import track_iter_progress
from PIL import Image
from pycocotools.coco import COCO


def convert(ann_file: Path, out: Path) -> int:
    """Write a PNG for each image that has an object.

    Args:
        ann_file: COCO instances file.
        out: Folder to write to.

    Returns:
        The number of masks.

    Raises:
        FileNotFoundError: The annotation file does not exist.
    """
    if not ann_file.is_file():
        raise FileNotFoundError(f'no COCO annotation file at {ann_file}')
    coco = COCO(str(ann_file))
    labels = {category: label for label, category in enumerate(sorted(coco.cats), start=1)}
    image_ids = sorted(image_id for image_id in coco.imgs if coco.imgToAnns[image_id])
    out.mkdir(parents=True, exist_ok=True)
    for image_id in track_iter_progress(image_ids):
        image = coco.imgs[image_id]
        mask = np.zeros((image['height'], image['width']), dtype=np.uint8)
        for annotation in sorted(coco.imgToAnns[image_id], key=lambda one: -one['area']):
            mask[coco.annToMask(annotation) > 0] = labels[annotation['category_id']]
        Image.fromarray(mask).save(out / f'{Path(image["file_name"]).stem}.png')
    return len(image_ids)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('ann_file', type=Path, help='COCO instances file')
    parser.add_argument('out', type=Path, help='folder to write the masks to')
    args = parser.parse_args()
    print(f'\n{args.out}: {convert(args.ann_file, args.out)} masks')


if __name__ == '__main__':
    main()
