"""Tag files: one line per image, as JSON or in the text format of the released code."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmcv.transforms import BaseTransform

from ..clip import Vocabulary
from ..files import read_text, split_lines, write_whole
from ..records import ImageRecord, parse_json
from ..registry import TRANSFORMS
from .image_index import ImageIndex

FORMAT = 'a tag file has one line per image, JSON or "image_id index index ..."'


@dataclass(frozen=True)
class TagRecord:
    """The tags of one image.

    Attributes:
        image: Path or id of the image, as the file has it.
        labels: Indices of the tags' classes.
    """

    image: str
    labels: tuple[int, ...]


def read_tag_file(path: str | Path, classes: Sequence[str]) -> list[TagRecord]:
    """Read a tag file.

    Args:
        path: Lines are either JSON (``{"image": ..., "tags": [names]}``) or the
            text format of the released code (``image_id 0 3 17``, class
            indices). Scores are ignored. Images that could not be read (``"error"``) are ignored.
        classes: Class names, in order.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A broken line, an unknown class, an index out of range, an
            image that occurs twice, or another format, such as CSV, YAML or a
            list of names; the message says on which line.
    """
    path = Path(path)
    index = {name: label for label, name in enumerate(classes)}
    lines = split_lines(read_text(path, 'tag file'))
    _check_indices(lines, path)
    records: dict[str, TagRecord] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f'{path}, line {number}'
        record = (
            _read_json(line, index, where)
            if line.lstrip().startswith('{')
            else _read_indices(line, len(index), where)
        )
        if record is None:
            continue
        if record.image in records:
            raise ValueError(f'{where} has the image {record.image!r} a second time')
        records[record.image] = record
    return list(records.values())


def _check_indices(lines: Sequence[str], path: Path) -> None:
    """Refuse a list of names: lines of one word each, none of which has a class index.

    Raises:
        ValueError: The lines are such a list.
    """
    filled = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if filled and all(
        len(_words(line)) == 1 and not line.lstrip().startswith('{') for _, line in filled
    ):
        number, line = filled[0]
        _check_line(line, f'{path}, line {number}')
        raise ValueError(
            f'{path}, line {number} has no class index, nor has any other line: {FORMAT}, '
            f'not {line!r}'
        )


def _check_line(line: str, where: str) -> None:
    """Refuse a line that other formats have.

    Raises:
        ValueError: It is a header of our own CSV files, or YAML.
    """
    if line.startswith('image,tag,score'):
        raise ValueError(f'{where} is the header of a CSV table: give the .jsonl file of that run')
    if re.match(r'\s*(---$|-[ \t]|[^ \t]*:([ \t]|$))', line):
        raise ValueError(f'{where} is YAML: {FORMAT}, not {line!r}')


def write_tag_file(path: str | Path, records: Sequence[TagRecord]) -> None:
    """Write tags in the text format of the released code, ``image_id 0 3 17``.

    Args:
        path: The file; it appears whole or not at all.
        records: The images. The id of one is its file name without folder and ending,
            as the released code has it.

    Raises:
        ValueError: Two images would get the same id, or an id has a space, which the
            format has no place for.
    """
    path = Path(path)
    lines: dict[str, str] = {}
    for record in records:
        image_id = Path(record.image).stem
        if _words(image_id) != [image_id] or {'\n', '\r'} & set(image_id):
            raise ValueError(
                f'{record.image!r} has a space in its name, or none, so it has no id '
                'in the text format; keep the JSON lines'
            )
        if image_id in lines:
            raise ValueError(
                f'{record.image!r} is the second image called {image_id!r}, which '
                'is all that the text format holds of it; keep the JSON lines'
            )
        lines[image_id] = ' '.join([image_id, *map(str, record.labels)])
    write_whole(path, (f'{line}\n'.encode() for line in lines.values()))


def _read_json(line: str, index: dict[str, int], where: str) -> TagRecord | None:
    try:
        content = parse_json(line)
        if isinstance(content, dict):  # tags that were corrected by hand have other scores
            content.pop('scores', None)
        record = ImageRecord.from_dict(content)
    except (ValueError, TypeError) as error:
        raise ValueError(f'{where} is broken: {error}') from None
    if record.error is not None:
        return None
    unknown = [tag for tag in record.tags if tag not in index]
    if unknown:
        raise ValueError(
            f'{where} has the unknown class {unknown[0]!r}; classes are {", ".join(index)}'
        )
    return TagRecord(record.image, tuple(index[tag] for tag in record.tags))


def _read_indices(line: str, count: int, where: str) -> TagRecord:
    _check_line(line, where)
    image, *words = _words(line)
    if not all(re.fullmatch('-?[0-9]+', word) for word in words):
        raise ValueError(f'{where} is neither JSON nor "image_id index index ...": {line!r}')
    labels = tuple(map(int, words))
    bad = [label for label in labels if not 0 <= label < count]
    if bad:
        raise ValueError(f'{where} has the class index {bad[0]}, but there are {count} classes')
    return TagRecord(image, labels)


def _words(line: str) -> list[str]:
    """What spaces and tabs separate; other white space may be part of a file's name."""
    return re.findall('[^ \t]+', line)


@TRANSFORMS.register_module()
class LoadTags(BaseTransform):
    """Look an image's tags up in a tag file.

    Required keys: ``img_path``. Added keys: ``tag_labels`` (list of int).

    An image is found by its path as the file has it, or else by its file name
    without folder and ending, if only one image of the file is called so.

    Args:
        tag_file: See :func:`read_tag_file`.
        classes: Class names: a built-in list, a file or a list.

    Raises:
        ValueError: The file has no tags for an image, several images of its name, or one
            entry for two images that were loaded in this process.
    """

    def __init__(self, tag_file: str, classes: str | Sequence) -> None:
        records = read_tag_file(tag_file, Vocabulary.load(classes).names)
        self.records = ImageIndex(tag_file, ((record.image, record) for record in records))

    def transform(self, results: dict) -> dict:
        """Add the tags of ``results['img_path']``."""
        results['tag_labels'] = list(self.records.find_own(str(results['img_path'])).labels)
        return results
