"""Class names with their synonyms, and prompt templates: from a config, a file or built in."""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher, get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from ..files import is_plain, read_text, split_lines, user_path
from .class_files import (
    IMAGENET,
    Row,
    imagenet_rows,
    read_bars,
    read_data,
    read_mapping,
    read_markup,
    read_open_images,
    short_repr,
)

BUILTIN_DIR = Path(__file__).parent.parent / 'vocabularies'
# No name of a list is longer, with some room. Longer texts are not compared with their names.
LONGEST_LIST = 40
ENDINGS = ('.txt', '.csv', '.tsv', '.yaml', '.yml', '.json', '.jsonl', '.xml')
# Words of a table's first row. A class may be called tag, with a label as its synonym, so that a
# row of these two alone is no header; the words of ALONE are one even in a table of one column.
ALONE = {'name', 'names', 'class', 'classes', 'class_name', 'classname', 'category', 'categories'}
HEADER = ALONE | {
    'id', 'ids', 'idx', 'index', 'no', 'number', 'class_id', 'category_id', 'category_name',
    'class_index', 'image', 'image_id', 'file', 'file_name', 'filename', 'path', 'tag', 'tags',
    'label', 'labels', 'label_name', 'score', 'scores', 'share', 'synonym', 'synonyms',
    'description', 'display_name', 'supercategory', 'count', 'color', 'colour', 'wnid', 'synset',
}  # fmt: skip


@dataclass(frozen=True)
class Vocabulary:
    """An ordered list of classes and the phrases that each is prompted with.

    Attributes:
        phrases: For each of the C classes its phrases, at least one. A class's text
            feature is the mean over all its phrases and all templates.
        names: The C class names, which results report; the first phrase of each class if
            not given.

    Raises:
        TypeError: A name or phrase is not a string.
        ValueError: A name or phrase is empty, a name has a control character or occurs twice, or
            there are more or fewer names than classes.
    """

    phrases: tuple[tuple[str, ...], ...]
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.names:
            object.__setattr__(self, 'names', tuple(one[0] if one else '' for one in self.phrases))
        if len(self.names) != len(self.phrases):
            raise ValueError(f'{len(self.names)} names for {len(self.phrases)} classes')
        for index, phrases in enumerate(self.phrases):
            for phrase in phrases:
                if not isinstance(phrase, str):
                    raise TypeError(
                        f'class names must be strings, but class {index} has '
                        f'{short_repr(phrase)} of type {type(phrase).__name__}'
                    )
                if not phrase.strip():
                    raise ValueError(
                        f'class {index} has an empty name or synonym: {short_repr(phrases)}'
                    )
            if not phrases:
                raise ValueError(f'class {index} has no name or phrase')
            if not self.names[index].strip():
                raise ValueError(f'class {index} has an empty name')
            if not is_plain(self.names[index]):
                raise ValueError(
                    f'class {index} has a character in its name that is no text: '
                    f'{short_repr(self.names[index])}'
                )
        twice = [name for name, count in Counter(self.names).items() if count > 1]
        if twice:
            raise ValueError(
                f'class names must be unique, but these occur more than once: {short_repr(twice)}'
            )

    def __len__(self) -> int:
        return len(self.phrases)

    def __add__(self, other: 'Vocabulary') -> 'Vocabulary':
        return Vocabulary(self.phrases + other.phrases, self.names + other.names)

    def without(self, other: 'Vocabulary') -> 'Vocabulary':
        """The classes that share neither name nor first phrase with a class of another list."""
        taken = {*other.names, *(phrases[0] for phrases in other.phrases)}
        kept = [
            (phrases, name)
            for phrases, name in zip(self.phrases, self.names, strict=True)
            if not {name, phrases[0]} & taken
        ]
        return Vocabulary(tuple(phrases for phrases, _ in kept), tuple(name for _, name in kept))

    def split(self, names: Sequence[str]) -> 'tuple[Vocabulary, Vocabulary]':
        """The other classes, and those of these names.

        Raises:
            ValueError: There is no class of a name; the message names the nearest.
        """
        for name in names:
            if name not in self.names:
                near = get_close_matches(name, self.names, 1)
                meant = f'; did you mean {near[0]!r}?' if near else ''
                raise ValueError(f'{short_repr(name)} is no class that could be hidden{meant}')
        chosen = set(names)
        parts = []
        for wanted in (False, True):
            at = [i for i, name in enumerate(self.names) if (name in chosen) == wanted]
            parts.append(
                Vocabulary(tuple(self.phrases[i] for i in at), tuple(self.names[i] for i in at))
            )
        return parts[0], parts[1]

    @classmethod
    def load(
        cls,
        source: 'str | Path | Iterable[str | Sequence[str]] '
        '| Mapping[str, str | Sequence[str]] | Vocabulary',
    ) -> 'Vocabulary':
        """Read a vocabulary.

        Args:
            source: The name of a built-in list (``'voc'``) or of one of timm's
                (``'imagenet12k'``), the path of a file, an iterable
                whose items are names or sequences ``(name, synonym, ...)``, or a
                dict from each name to its synonyms. A file has one class per line (CSV: the
                name, then its synonyms, separated by commas; quotes around a phrase that itself
                has a comma; lines that start with ``#`` are comments), or it is JSON, YAML, a
                label config, OpenImages' table or RAM's ``dog | cat``. In lines and in Python,
                ``name = phrase`` is a class that is called ``name`` and prompted with ``phrase``.

        Raises:
            FileNotFoundError: No built-in list and no file of this name.
            TypeError: ``source`` is of none of these kinds, or a set, which has
                no order.
            ValueError: See :class:`Vocabulary`, or the file has another format, such as
                a table with a header; the message names the file.
        """
        if isinstance(source, Vocabulary):
            return source
        if isinstance(source, str) and source in IMAGENET:
            return _imagenet(source)
        if isinstance(source, str | Path):
            path = find_list(source)
            rows = _file_rows(path)
            try:
                return cls._of(rows)
            except (ValueError, csv.Error) as error:
                raise ValueError(f'{path}: {error}') from None
            except TypeError as error:
                raise TypeError(f'{path}: {error}') from None
        if not isinstance(source, Iterable):
            raise TypeError(
                'a vocabulary is a built-in name, a file or a list of class names, '
                f'not {short_repr(source)}'
            )
        if isinstance(source, set | frozenset):
            raise TypeError('a set of class names has no order: give a list')
        if isinstance(source, Mapping):
            source = [(name, *_listed(synonyms)) for name, synonyms in source.items()]
        return cls._of(_called(_listed(item)) for item in source)

    @classmethod
    def _of(cls, rows: 'Iterable[Row]') -> 'Vocabulary':
        """The vocabulary of classes, each given by its name, or None, and its phrases."""
        names, classes = [], []
        for name, row in rows:
            phrases = tuple(word.strip() if isinstance(word, str) else word for word in row)
            classes.append(phrases)
            names.append(name or (phrases[0] if phrases else ''))
        return cls(tuple(classes), tuple(names))


@cache
def _imagenet(name: str) -> Vocabulary:
    """A list of timm's, which takes half a second to put together."""
    return Vocabulary._of(imagenet_rows(name))


def parse_names(text: str, files: bool = True) -> Vocabulary:
    """Read class names as people type them: on the command line, in Python, on the web page.

    Unlike in a file, where a line is a class with its synonyms, commas and lines
    both separate classes here. A class that is typed twice counts once. ``tv = tvmonitor`` is
    a class called ``tv``, prompted with ``tvmonitor``.

    Args:
        text: The name of a built-in list (``'voc'``), the path of a file (both as
            :meth:`Vocabulary.load` reads them), or names separated by commas or lines,
            with quotes around a name that itself has a comma (``'bell, "big, red bus"'``).
        files: Whether files may be read. Not where the text comes from a stranger.

    Returns:
        The classes; none if the text holds no name.

    Raises:
        FileNotFoundError: A name looks like a file (``names.txt``, ``my/names``), but
            there is none, or files may not be read.
        ValueError: A quote is not closed, the text is ``auto`` or nearly the name of a built-in
            list, or the file is bad; see :class:`Vocabulary`.
    """
    text = text.strip()
    if text in IMAGENET:
        return Vocabulary.load(text)
    path = typed_path(text, files)
    if path is not None:
        return Vocabulary.load(path)
    if text.count('"') % 2:
        raise ValueError(f'a quote is not closed in the names {short_repr(text)}')
    rows = csv.reader(text.splitlines(keepends=True), skipinitialspace=True)
    cells = [' '.join(cell.split()) for row in rows for cell in row]
    names = list(dict.fromkeys(filter(None, cells)))
    for name in names:
        if name.lower().endswith(ENDINGS) or (len(names) == 1 and '/' in name):
            reason = '' if files else ', as files are not read here'
            raise FileNotFoundError(f'no file of names at {name[:500]}{reason}')
    alone = not {',', '"'} & set(text)
    if alone and text.partition(':')[0].lower() == 'auto':
        raise ValueError(
            f'{short_repr(text)} is no list: names are chosen for each image by '
            "mmtagclip tag --classes auto or, in Python, a tagger's classes=AutoNames(). "
            f'If it is a class, write {short_repr(text + ",")}'
        )
    near = _near_lists(text) if alone and len(text) <= LONGEST_LIST else []
    if near:
        raise ValueError(
            f'{text!r} is no built-in list; did you mean {" or ".join(near)}? If it is a class, '
            f'write {text + ","!r}'
        )
    return Vocabulary.load(names)


def load_classes(source: str | Path | Sequence[str | Sequence[str]] | Vocabulary) -> Vocabulary:
    """Read the classes to find; see :meth:`Vocabulary.load`.

    Raises:
        ValueError: There is none.
    """
    classes = Vocabulary.load(source)
    if not len(classes):
        raise ValueError('classes is empty: name at least one class to find')
    return classes


def load_templates(source: str | Path | Sequence[str]) -> tuple[str, ...]:
    """Read prompt templates, each with one ``{}`` for the class name.

    Args:
        source: The name of a built-in list (``'templates_85'``), the path of a
            file with one template per line, or a sequence of templates.

    Raises:
        FileNotFoundError: No built-in list and no file of this name.
        TypeError: A template is not a string.
        ValueError: No template at all, or one without exactly one ``{}``.
    """
    templates = _lines(find_list(source)) if isinstance(source, str | Path) else list(source)
    if not templates:
        raise ValueError(f'{short_repr(source)} holds no prompt template')
    for template in templates:
        if not isinstance(template, str):
            raise TypeError(f'a prompt template must be a string, not {short_repr(template)}')
        if template.count('{}') != 1:
            raise ValueError(
                f"a prompt template must hold '{{}}' exactly once, "
                f'where the class name goes: {short_repr(template)}'
            )
    return tuple(templates)


def load_descriptions(source: str | Path | Sequence[str], names: Sequence[str]) -> Vocabulary:
    """Read what is said about classes: text that is a prompt of its own.

    Args:
        source: The path of a file with one description per line, in the order of
            the classes (lines that start with ``#`` are comments), or a
            sequence of them.
        names: Of the classes.

    Returns:
        The descriptions, in the place of names.

    Raises:
        FileNotFoundError: No file of this name.
        TypeError: A description is not a string.
        ValueError: Not one description per class, one that is empty, or the same
            twice.
    """
    where, texts = (
        (str(source), _lines(find_list(source)))
        if isinstance(source, str | Path)
        else ('descriptions', list(source))
    )
    if len(texts) != len(names):
        raise ValueError(
            f'{where} must hold one description for each of the {len(names)} classes '
            f'({names[0]!r} to {names[-1]!r}), not {len(texts)}'
        )
    first: dict[str, str] = {}
    for name, text in zip(names, texts, strict=True):
        if text in first:
            raise ValueError(
                f'{where} says the same of {first[text]!r} and {name!r}: {short_repr(text)}'
            )
        first[text] = name
    return Vocabulary(tuple((text,) for text in texts))


def load_labels(
    source: str | Path | Sequence[str] | Mapping[str, str], names: Sequence[str]
) -> dict[str, str]:
    """Read what results call the classes, such as their names in another language.

    Args:
        source: A file with one label per line, in the order of the classes; JSON or YAML with
            a label for each name; or a sequence or dict of the same.
        names: Of the classes.

    Returns:
        The label of each name. Labels of several classes have their names behind them.

    Raises:
        FileNotFoundError: No file of this name.
        TypeError: A label is no string.
        ValueError: Not one label for each class, or an empty one.
    """
    where: str = 'labels'
    content: Any = source
    if isinstance(source, str | Path):
        path = user_path(source)
        where = str(path)
        if not path.is_file():
            raise FileNotFoundError(f'no file of labels at {path}')
        if path.suffix.lower() in ('.json', '.yaml', '.yml'):
            text = read_text(path, 'file of labels')
            try:
                content = read_mapping(text)
            except ValueError as error:
                raise ValueError(f'{path} {error}') from None
        else:
            content = _lines(path)
    if isinstance(content, Mapping):
        missing = [name for name in names if name not in content]
        if missing:
            raise ValueError(f'{where}: {len(missing)} classes have no label, as {missing[0]!r}')
        labels = [content[name] for name in names]
    else:
        labels = list(content)
        if len(labels) != len(names):
            raise ValueError(
                f'{where} must have one label for each of the {len(names)} classes, not '
                f'{len(labels)}'
            )
    for name, label in zip(names, labels, strict=True):
        if not isinstance(label, str):
            raise TypeError(
                f'{where}: the label of {name!r} must be a string, not {short_repr(label)}'
            )
        if not label.strip() or not is_plain(label.strip()):
            raise ValueError(
                f'{where}: the label of {name!r} is empty or no text: {short_repr(label)}'
            )
    counts = Counter(label.strip() for label in labels)
    return {
        name: label.strip() if counts[label.strip()] == 1 else f'{label.strip()} ({name})'
        for name, label in zip(names, labels, strict=True)
    }


def load_integers(source: str | Path) -> list[int]:
    """Read a list of integers, one per line: a built-in list (``'cocostuff_values'``) or a file.

    Raises:
        FileNotFoundError: No built-in list and no file of this name.
        ValueError: A line is no integer.
    """
    path = find_list(source)
    try:
        return [int(line) for line in _lines(path)]
    except ValueError as error:
        raise ValueError(f'{path} must have one integer per line: {error}') from None


def find_list(source: str | Path) -> Path:
    """Path of a built-in list of names or templates, or of the user's own file.

    Raises:
        FileNotFoundError: Neither exists; the message lists the built-in ones.
    """
    builtin = _builtin(source)
    if builtin is not None:
        return builtin
    path = user_path(source)
    if path.is_file():
        return path
    names = ', '.join(_builtin_names())
    raise FileNotFoundError(f'{str(source)!r} is neither a file nor a built-in list ({names})')


def _builtin_names() -> list[str]:
    return sorted([*(file.stem for file in BUILTIN_DIR.glob('*.txt')), *IMAGENET])


def _builtin(source: str | Path) -> Path | None:
    """Path of a built-in list; None if there is none of this name."""
    path = BUILTIN_DIR / f'{source}.txt'
    return path if Path(source).name == str(source) and path.is_file() else None


def typed_path(text: str, files: bool) -> Path | None:
    """Path of the list that a text names, as :func:`parse_names` has it; None if it names none."""
    try:
        path = _builtin(text) or (user_path(text) if files else None)
        return path if path is not None and path.is_file() else None
    except (OSError, ValueError):  # too long for a path, or with a NUL in it
        return None


def _near_lists(text: str) -> list[str]:
    """Built-in lists whose name a text may have meant: nearly equal, or but for one letter."""
    word = '_'.join(text.lower().split())
    near = []
    for name in _builtin_names():
        ratio = SequenceMatcher(None, word, name).ratio()
        letters = sum(a != b for a, b in zip(word, name, strict=False))
        if ratio >= 0.8 or (letters == 1 and len(word) == len(name) >= 4):
            near.append((-ratio, name))
    return [name for _, name in sorted(near)[:3]]


def _file_rows(path: Path) -> Iterable[Row]:
    """The classes of a file, in whatever format it is; quotes that are not closed come later.

    Raises:
        TypeError: A name is no string.
        ValueError: The file has a format that holds no names, or is damaged.
    """
    text = read_text(path, 'list of names')
    lines = _content(text)
    ending = path.suffix.lower()
    if not lines:
        return []
    if ending == '.xml' or lines[0].startswith(('<View', '<?xml')):
        try:
            return read_markup(text)
        except ValueError as error:
            raise ValueError(f'{path}: {error}') from None
    table = read_open_images(lines) or read_bars(lines)
    if table is not None:
        return table
    other = _other_format(lines)
    if ending in ('.json', '.yaml', '.yml') or (other or '').startswith(('is JSON', 'is YAML')):
        try:
            return read_data(text)
        except (ValueError, TypeError) as error:
            raise type(error)(f'{path} {error}') from None
    if other is not None:
        raise ValueError(
            f'{path} {other}: write one class per line, synonyms after commas; a name '
            'that only looks like this needs double quotes'
        )
    return map(_row, lines)


def _other_format(lines: Sequence[str]) -> str | None:
    """What lines are, if not one class per line; None if nothing speaks against it.

    Lines that begin with a double quote are what they seem: that is how users write a name
    that looks like another format.
    """
    if not lines:
        return None
    text = '\n'.join(lines)
    first = lines[0]
    if (
        _is_json(text)
        or _is_json(first)
        or re.match(r'[\[{]($|[^\]}]*[,:\'"][^\]}]*[\]}]?,?$)', first)
    ):
        if '"annotations"' in text or '"categories"' in text:
            return 'is JSON, as COCO annotations are'
        return 'is JSON'
    if re.match(r'<[!?/a-zA-Z]', first):
        return 'is XML or HTML'
    if re.match(r'\w+\s*=\s*[\[({]', first):
        return 'is Python code'
    if all('{}' in line for line in lines):
        return 'holds prompt templates'
    yaml = _yaml_line(lines)
    if yaml is not None:
        return f'is YAML ({yaml[:60]!r})'
    if _is_numbered(lines):
        return f'has numbers before its names ({first[:60]!r})'
    for line in lines:
        plain = re.sub(r'"[^"]*"|&#?\w+;', '', re.sub(r'\s*,\s*', ',', line))
        for sign, name in ((';', 'semicolons'), ('\t', 'tabs'), ('|', 'vertical bars')):
            if sign in plain:
                return f'has {name} between its columns ({line[:60]!r})'
    # A column is quoted as some programs do; a class called "name" is quoted, too.
    cells = [cell.strip().lower().replace(' ', '_') for cell in first.split(',')]
    if len(cells) > 1:
        cells = [cell.strip('"') for cell in cells]
    if set(cells) <= (HEADER if len(cells) > 1 else ALONE) and not set(cells) <= {'tag', 'label'}:
        return f'is a table with a header ({first[:60]!r})'
    return None


def _is_json(text: str) -> bool:
    """Whether a text is a JSON object or array; a name in brackets is none."""
    try:
        return isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return False


def _yaml_line(lines: Sequence[str]) -> str | None:
    """The line that shows lines to be YAML, or a Markdown list; None if they are neither."""
    for number, line in enumerate(lines):
        if re.match(r'(names|classes|labels|categories)\s*:', line) or (
            number == 0 and re.match(r'---|\w+:($|\s*[\[{])|-\s+\w+:\s', line)
        ):
            return line
    patterns = [r'[-*\u2022]\s+', r'\d+\s*:\s']
    if len(lines) > 1:
        patterns.append(r'[^:"]+:\s*\d+$')
    if any(all(re.match(pattern, line) for line in lines) for pattern in patterns):
        return lines[0]
    return None


def _is_numbered(lines: Sequence[str]) -> bool:
    """Whether each line is a number or a WordNet id, and a name; "1 cent coin" is a name."""
    if all(re.match(r'n\d{8}\s', line) for line in lines):
        return True
    numbers = [re.match(r'(\d+)(\s*[.):,;]\s*|\s+)(?=\D)', line) for line in lines]
    found = [match for match in numbers if match is not None]
    if len(found) < max(2, len(lines)):
        return False
    if all(match[2].strip() for match in found):
        return True
    counted = [int(match[1]) for match in found]
    start = counted[0]
    enough = start == 0 or (start == 1 and len(counted) > 2)
    return enough and counted == [*range(start, start + len(counted))]


def _row(line: str) -> tuple[str | None, Sequence]:
    """Name, or None, and phrases of a line of a file.

    Raises:
        csv.Error: A quote is not closed.
    """
    name, rest = _split_name(line)
    return name, next(csv.reader([rest], skipinitialspace=True, strict=True), [])


def _called(item: Sequence) -> tuple[str | None, Sequence]:
    """Name, or None, and phrases of a class given in Python."""
    if not item or not isinstance(item[0], str):
        return None, item
    name, first = _split_name(item[0].strip())
    return name, [first, *item[1:]]


def _split_name(text: str) -> tuple[str | None, str]:
    """``name = phrases`` as both; the name is None where there is none."""
    match = re.fullmatch(r'([^",]*\S)\s+=(?:\s+(.*))?', text)
    return (None, text) if match is None else (match[1], match[2] or '')


def _listed(item: object) -> Sequence:
    """A sequence of phrases as it is, one phrase as a sequence."""
    return item if isinstance(item, list | tuple) else (item,)


def _lines(path: Path) -> list[str]:
    """The lines of a file that are neither blank nor comments, without white space around them."""
    return _content(read_text(path, 'list of names'))


def _content(text: str) -> list[str]:
    return [
        line.strip()
        for line in split_lines(text)
        if line.strip() and not line.lstrip().startswith('#')
    ]
