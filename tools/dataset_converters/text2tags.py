r"""Turn labels in the published text format, ``image_id 0 3 17``, into MMPretrain's annotations.

    python tools/dataset_converters/text2tags.py val_labels.txt \
        data/coco/annotations/tagclip_val2014.json --classes coco

TagCLIP and PIAA publish their label lists in this format. With the same labels, two figures can be
compared. Reads JSON lines as well.
"""

import argparse
import json
from pathlib import Path

from mmtagclip.clip import Vocabulary
from mmtagclip.datasets import read_tag_file
from mmtagclip.files import write_whole


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('labels', type=Path, help='label file')
    parser.add_argument('out', type=Path, help='annotation file to write')
    parser.add_argument(
        '--classes', required=True, help='class names in order: a built-in list or a file'
    )
    parser.add_argument(
        '--suffix',
        default='.jpg',
        help="ending of the image files, for ids without one (default: '.jpg')",
    )
    args = parser.parse_args()
    classes = Vocabulary.load(args.classes).names
    data_list = [
        {
            'img_path': record.image if Path(record.image).suffix else record.image + args.suffix,
            'gt_label': sorted(set(record.labels)),
        }
        for record in read_tag_file(args.labels, classes)
    ]
    content = {'metainfo': {'classes': list(classes)}, 'data_list': data_list}
    write_whole(args.out, json.dumps(content).encode())
    print(
        f'{args.out}: {len(data_list)} images, '
        f'{sum(len(one["gt_label"]) for one in data_list)} labels'
    )


if __name__ == '__main__':
    main()
