"""Turn YOLO labels into a COCO instances file.

YOLO labels have one text file per image, with the same name, and one line per object: the class
index, then the box as centre x, centre y, width and height, relative to the image's size.
An image without a label file has no objects.

    python tools/dataset_converters/yolo2coco.py IMAGES LABELS OUT.json --classes coco
"""

import argparse
import json
from pathlib import Path

from mmtagclip.clip import Vocabulary
from mmtagclip.files import write_whole
from mmtagclip.images import image_size, no_image, split_files


def convert(images: Path, labels: Path, classes: tuple[str, ...]) -> dict:
    """Read a folder of images and a folder of YOLO labels.

    Args:
        images: Folder of images.
        labels: Folder of label files.
        classes: Class names, in the order of the class indices.

    Returns:
        A COCO instances dict; category ids start at 1.

    Raises:
        FileNotFoundError: The folder has no images.
        ValueError: A line is not a YOLO label, or names an unknown class; the message names the
            line. Also if two images would have the same label file, or an image is damaged.
    """
    paths, others = split_files(images.iterdir())
    if not paths:
        raise FileNotFoundError(no_image(images, others))
    coco: dict[str, list] = {
        'images': [],
        'annotations': [],
        'categories': [{'id': i + 1, 'name': name} for i, name in enumerate(classes)],
    }
    owner: dict[str, Path] = {}
    for image_id, path in enumerate(paths, start=1):
        if path.stem in owner:
            raise ValueError(f'{owner[path.stem]} and {path} would have the same label file')
        owner[path.stem] = path
        height, width = image_size(path)
        coco['images'].append(
            {'id': image_id, 'file_name': path.name, 'width': width, 'height': height}
        )
        label_file = labels / f'{path.stem}.txt'
        if not label_file.is_file():
            continue
        for number, line in enumerate(label_file.read_text().splitlines(), start=1):
            if not line.strip():
                continue
            try:
                index = int(line.split()[0])
                x, y, w, h = (float(value) for value in line.split()[1:])
            except (ValueError, IndexError):
                raise ValueError(
                    f'{label_file}, line {number} is not "class x y width height": {line!r}'
                ) from None
            if not 0 <= index < len(classes):
                raise ValueError(
                    f'{label_file}, line {number} names the unknown class {index}; '
                    f'there are {len(classes)}, from 0'
                )
            box = [(x - w / 2) * width, (y - h / 2) * height, w * width, h * height]
            coco['annotations'].append(
                {
                    'id': len(coco['annotations']) + 1,
                    'image_id': image_id,
                    'category_id': index + 1,
                    'bbox': [round(value, 2) for value in box],
                    'area': round(box[2] * box[3], 2),
                    'iscrowd': 0,
                }
            )
    return coco


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('images', type=Path, help='folder of images')
    parser.add_argument('labels', type=Path, help='folder of YOLO label files')
    parser.add_argument('out', type=Path, help='COCO instances file to write')
    parser.add_argument(
        '--classes',
        default='coco',
        help='built-in list of names, or a file with one class per line',
    )
    args = parser.parse_args()
    coco = convert(args.images, args.labels, Vocabulary.load(args.classes).names)
    write_whole(args.out, json.dumps(coco).encode())
    print(f'{args.out}: {len(coco["images"])} images, {len(coco["annotations"])} objects')


if __name__ == '__main__':
    main()
