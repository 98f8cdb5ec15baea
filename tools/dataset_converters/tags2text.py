r"""Write a tag file of JSON lines in the published text format, ``image_id 0 3 17``.

    python tools/dataset_converters/tags2text.py \
        work_dirs/tags_vit-base-p16_openai_voc12/pseudo_labels/labels.jsonl tags.txt \
        --classes voc

Reads the tag files of tools/test.py: tags.jsonl, and labels.jsonl of pseudo labels.
"""

import argparse
from pathlib import Path

from mmtagclip.clip import Vocabulary
from mmtagclip.datasets import read_tag_file, write_tag_file


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('tags', type=Path, help='tag file of JSON lines')
    parser.add_argument('out', type=Path, help='text file to write')
    parser.add_argument(
        '--classes', required=True, help='class names in order: a built-in list or a file'
    )
    args = parser.parse_args()
    records = read_tag_file(args.tags, Vocabulary.load(args.classes).names)
    write_tag_file(args.out, records)
    print(f'{args.out}: {len(records)} images')


if __name__ == '__main__':
    main()
