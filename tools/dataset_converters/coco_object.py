r"""Paint the objects of a COCO instances file into index masks (COCO-Object: 0 is background).

Smaller objects are painted over larger ones.

    python tools/dataset_converters/coco_object.py \
        data/coco/annotations/instances_val2017.json data/coco/objects/val2017
"""

import argparse
import math
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from mmengine.utils import track_iter_progress

from mmtagclip.datasets.coco import image_size, object_mask, read_coco
from mmtagclip.files import write_whole
from mmtagclip.images import image_stem
from mmtagclip.labels import IGNORED, mask_png


def convert(ann_file: Path, out: Path) -> int:
    """Write a PNG for each image that has an object, in the same folders as the images.

    Args:
        ann_file: COCO instances file.
        out: Folder to write to.

    Returns:
        The number of masks.

    Raises:
        FileNotFoundError: The annotation file does not exist.
        ValueError: The file is not in COCO's layout, an object is damaged, or two images would
            have the same mask file.
    """
    coco = read_coco(ann_file)
    if len(coco.cats) >= IGNORED:
        raise ValueError(f'a mask holds {IGNORED - 1} categories at most, not {len(coco.cats)}')
    labels = {category: label for label, category in enumerate(sorted(coco.cats), start=1)}
    image_ids = sorted(image_id for image_id in coco.imgs if coco.imgToAnns[image_id])
    paths = mask_paths({image_id: coco.imgs[image_id]['file_name'] for image_id in image_ids})
    for image_id in track_iter_progress(image_ids):
        image = coco.imgs[image_id]
        mask = np.zeros(image_size(image), dtype=np.uint8)
        for annotation in sorted(coco.imgToAnns[image_id], key=lambda one: -_area(one)):
            mask[object_mask(annotation, image)] = labels[annotation['category_id']]
        path = out / paths[image_id]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, mask_png(mask))
    return len(image_ids)


def _area(annotation: Mapping[str, Any]) -> float:
    area = annotation.get('area')
    if type(area) not in (int, float) or not math.isfinite(area):
        raise ValueError(f'annotation {annotation.get("id")!r} has no "area" in pixels')
    return area


def mask_paths(names: Mapping[int, str]) -> dict[int, str]:
    """Path of each image's mask, relative, by the image's id.

    Raises:
        ValueError: Two images that differ only in their ending, or one outside of the folder.
    """
    owner: dict[str, str] = {}
    paths = {}
    for image_id, name in names.items():
        path = PurePosixPath(name)
        if path.is_absolute() or '..' in path.parts:
            raise ValueError(f'the image {name!r} lies outside of its folder')
        mask = str(path.with_name(f'{image_stem(path.name)}.png'))
        if mask in owner:
            raise ValueError(f'{owner[mask]!r} and {name!r} would have the same mask, {mask}')
        owner[mask] = name
        paths[image_id] = mask
    return paths


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
