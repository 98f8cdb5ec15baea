"""Class names from files that other tools write, and from timm's tables of ImageNet."""

import csv
import json
import re
from collections.abc import Mapping, Sequence
from reprlib import Repr
from typing import Any

import yaml

from ..label_config import read_label_config

# A class: its name, or None for its first phrase, and its phrases.
Row = tuple[str | None, Sequence[Any]]
# Lists that timm has: names of ``timm.data.ImageNetInfo``.
IMAGENET = ('imagenet12k', 'imagenet21k')
# Keys under which files keep their classes, the first that is there.
KEYS = ('categories', 'names', 'classes', 'labels')
# Keys of files of results or of records, which are no names.
RESULTS = {'image', 'images', 'tags', 'annotations'}

_repr = Repr()
_repr.maxstring, _repr.maxother, _repr.maxlevel = 80, 80, 2


def short_repr(value: object) -> str:
    """How Python writes a value, for messages; the middle of long texts and lists is left out."""
    return _repr.repr(value)


class PlainLoader(yaml.SafeLoader):
    """YAML without aliases: ten lines of them, each of the one before, fill the memory."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Refuse an alias; anything else as PyYAML has it."""
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise ValueError(
                f'has the YAML alias *{event.anchor[:30]} in line {event.start_mark.line + 1}: '
                'write out what it stands for; put a name that begins with * in quotes'
            )
        return super().compose_node(parent, index)


def imagenet_rows(name: str) -> list[Row]:
    """The classes of a list of ImageNet: its first lemma, then the others.

    A class whose first lemma is the name of an earlier class (the monitor is a screen and a
    lizard) is called by its next lemma. If all are taken, no text tells the two classes apart,
    and they are one.

    Args:
        name: One of :data:`IMAGENET`.
    """
    from timm.data import ImageNetInfo  # imports torch

    info = ImageNetInfo(name)
    taken: set[str] = set()
    rows: list[Row] = []
    for number in range(info.num_classes()):
        lemmas = [one.strip() for one in info.index_to_description(number).split(',')]
        free = [one for one in lemmas if one.casefold() not in taken]
        if free:
            taken.add(free[0].casefold())
            rows.append((free[0], list(dict.fromkeys([free[0], *lemmas]))))
    return rows


def read_data(text: str) -> list[Row]:
    """The classes of a JSON or YAML file.

    Args:
        text: A list of names, of lists ``[name, synonym, ...]`` or of objects with a ``name``
            (the categories of COCO and LVIS, CVAT's labels); or an object from names to
            synonyms, from names to numbers or from numbers to names; or an object that has one
            of these under one of :data:`KEYS`.

    Raises:
        ValueError: It is neither JSON nor YAML, or holds something else.
    """
    return _rows(_parse(text))


def read_mapping(text: str) -> dict[Any, Any]:
    """An object of a JSON or YAML file.

    Raises:
        ValueError: It is neither JSON nor YAML, or holds no object.
    """
    content = _parse(text)
    if not isinstance(content, dict):
        raise ValueError('holds no object with a value for each name')
    return content


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return yaml.load(text, PlainLoader)
    except (yaml.YAMLError, RecursionError) as error:
        said = ' '.join(str(error).split())
        raise ValueError(f'is neither JSON nor YAML as a whole: {said}') from None


def read_markup(text: str) -> list[Row]:
    """The classes of Label Studio's label config.

    Raises:
        ValueError: See :func:`~mmtagclip.label_config.read_label_config`.
    """
    return [(None, [name]) for name in read_label_config(text).names]


def read_open_images(lines: Sequence[str]) -> list[Row] | None:
    """The classes of OpenImages' table of names, ``/m/0abc,Name``; None for other lines.

    Args:
        lines: With or without a header.
    """
    rows = lines[1:] if lines and lines[0].lower().startswith('labelname,') else lines
    if not rows or not all(re.match(r'/[a-z]/\w+,', line) for line in rows):
        return None
    return [(None, cells[1:2]) for cells in csv.reader(rows)]


def read_bars(lines: Sequence[str]) -> list[Row] | None:
    """The classes of lines ``dog | cat | bird``, as RAM prints them; None for other lines."""
    if not all(re.match(r'[^|]*[^|\s]\s+\|\s', f'{line} ') for line in lines):
        return None
    return [(None, [part]) for line in lines for part in line.split('|') if part.strip()]


def _rows(content: Any) -> list[Row]:
    if isinstance(content, list):
        return [_row(item, number) for number, item in enumerate(content)]
    if not isinstance(content, dict):
        raise ValueError('holds no list of names')
    for key in KEYS:
        if isinstance(content.get(key), list | dict):
            if not content[key]:
                raise ValueError(f'has no classes under {key!r}')
            return _rows(content[key])
    results = sorted(RESULTS & content.keys())
    if results:
        raise ValueError(f'holds {results[0]!r}, so it is a file of results, not of names')
    if content and all(_is_number(key) for key in content):
        return [_row(content[key], int(key)) for key in sorted(content, key=int)]
    if content and all(_is_number(value) for value in content.values()):
        return [_row(name, 0) for name in sorted(content, key=lambda name: int(content[name]))]
    return [
        (None, [name, *(() if more is None else more if isinstance(more, list) else [more])])
        for name, more in content.items()
    ]


def _row(item: Any, number: int) -> Row:
    """The class of an entry."""
    if isinstance(item, Mapping):
        if 'name' not in item:
            raise ValueError(f'has an entry without a name, number {number}: {short_repr(item)}')
        name, more = item['name'], item.get('synonyms') or []
        phrases = [name, *(more if isinstance(more, list) else [more])]
        # LVIS writes aerosol_can; CLIP read captions.
        spoken = [one.replace('_', ' ') if isinstance(one, str) else one for one in phrases]
        return name, list(dict.fromkeys(spoken))
    if isinstance(item, list):
        return None, item
    if not isinstance(item, str):
        raise TypeError(
            f'has {short_repr(item)} as class {number}, which is no string: put it in quotes'
        )
    return None, [item]


def _is_number(value: Any) -> bool:
    return (isinstance(value, int) and not isinstance(value, bool)) or (
        isinstance(value, str) and value.isdecimal()
    )
