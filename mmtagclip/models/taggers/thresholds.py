"""Thresholds of single classes, and the files that hold them."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...files import read_text, split_lines, user_path

if TYPE_CHECKING:  # checking options needs no torch
    from torch import Tensor

KINDS = ('absolute', 'relative')
# Columns of `mmtagclip thresholds` that are for people.
NOTES = (
    *('positives', 'images', 'precision', 'precision_low', 'precision_high'),
    *('recall', 'recall_low', 'recall_high', 'f1', 'note'),
)
# A file, by class ``{'absolute': 0.4}`` or ``{'relative': 0.3}`` or a number, which is absolute;
# or a number for each class, in their order.
ThresholdSource = str | Path | Mapping[str, Any] | Sequence[float]


@dataclass(frozen=True)
class ClassThresholds:
    """For each class its own threshold, or None where the rule of the others holds.

    A class with an absolute threshold is a tag if its score is above it, whatever the rest of
    the rule says; one with a relative threshold k, if its score is above ``min + k * (max -
    min)`` of its image and not below the rule's ``min_score``; one with both, if both hold.

    Attributes:
        absolute: F numbers in [0, 1], or None. No score is above 1: it means never.
        relative: F numbers in [0, 1], or None.
    """

    absolute: tuple[float | None, ...]
    relative: tuple[float | None, ...]

    def mask(self, others: 'Tensor', scores: 'Tensor', min_score: float) -> 'Tensor':
        """Which classes are tags, ``(..., F)`` bool.

        Args:
            others: ``(..., F)`` bool, which would be without thresholds of their own.
            scores: ``(..., F)``.
            min_score: Lowest score of a class with a relative threshold.

        Raises:
            ValueError: Another number of classes.
        """
        if len(self.absolute) != scores.shape[-1]:
            raise ValueError(
                f'there are thresholds for {len(self.absolute)} classes, but scores of '
                f'{scores.shape[-1]}'
            )
        limits, own = [], []
        for values in (self.absolute, self.relative):
            limits.append(scores.new_tensor([0 if one is None else one for one in values]))
            own.append(scores.new_tensor([one is not None for one in values]).bool())
        low, high = scores.amin(-1, keepdim=True), scores.amax(-1, keepdim=True)
        above = scores > low + limits[1] * (high - low)
        found = ((scores > limits[0]) | ~own[0]) & ((above & (scores >= min_score)) | ~own[1])
        return found.where(own[0] | own[1], others)


def class_thresholds(
    source: ThresholdSource,
    names: Sequence[str],
    others: Sequence[str] = (),
    listed: Sequence[str] = (),
) -> ClassThresholds:
    """Thresholds for the classes of a call.

    Args:
        source: See :data:`ThresholdSource`.
        names: Of the F classes.
        others: Names that compete but are never tags, such as hidden ones; their thresholds are
            ignored.
        listed: Names whose order numbers without names have; ``names`` if not given.

    Raises:
        FileNotFoundError: There is no such file.
        TypeError: A threshold is no number.
        ValueError: A threshold is outside of [0, 1], a name is unknown, a list of numbers has
            another length, or the file has another format.
    """
    where = f'{source}: ' if isinstance(source, str | Path) else ''
    found = read_thresholds(source)
    if not isinstance(found, Mapping):
        listed = listed or names
        if len(found) != len(listed):
            raise ValueError(
                f'{where}{len(found)} thresholds in the order of the classes, but there are '
                f'{len(listed)} classes: give the list of names that they belong to'
            )
        by_name = dict(zip(listed, found, strict=True))
        return ClassThresholds(tuple(by_name[name] for name in names), (None,) * len(names))
    known = {*names, *others}
    unknown = [name for name in found if name not in known]
    if unknown:
        more = f' and {len(unknown) - 1} more names' if len(unknown) > 1 else ''
        raise ValueError(
            f'{where}a threshold for {unknown[0]!r}{more}, which is none of the {len(names)} '
            'classes: give the same classes, or leave it out'
        )
    values = [found.get(name, {}) for name in names]
    absolute, relative = (tuple(one.get(kind) for one in values) for kind in KINDS)
    return ClassThresholds(absolute, relative)


def read_thresholds(source: ThresholdSource) -> dict[str, dict[str, float]] | list[float]:
    """Thresholds by class, or a number for each class in their order.

    Args:
        source: A file, or what was read already. ``.csv``: a table with the column ``tag`` and
            one or both of ``absolute`` and ``relative``, as ``mmtagclip thresholds`` writes it;
            an empty cell is no threshold. Other files: one number per line, in the order of the
            classes, as RAM publishes them.

    Raises:
        FileNotFoundError: There is no such file.
        TypeError: A threshold is no number.
        ValueError: A threshold is outside of [0, 1], or the file has another format; the message
            says where.
    """
    if isinstance(source, str | Path):
        path = user_path(source)
        text = read_text(path, 'file of thresholds')
        return _of_table(text, path) if path.suffix.lower() == '.csv' else _of_lines(text, path)
    if isinstance(source, Mapping):
        return {
            name: {
                kind: _checked(one, f'the {kind} threshold of {name!r}')
                for kind, one in _by_kind(name, value).items()
            }
            for name, value in source.items()
        }
    if not isinstance(source, Iterable):
        raise TypeError(
            f'thresholds of single classes are a file, a mapping or a list, not {source!r}: one '
            'number for all classes is the option threshold'
        )
    return [_checked(one, f'threshold {number}') for number, one in enumerate(source)]


def _by_kind(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        return {'absolute': value}
    wrong = [key for key in value if key not in KINDS]
    if wrong:
        raise ValueError(f'the threshold of {name!r} is absolute or relative, not {wrong[0]!r}')
    return value


def _checked(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f'{what} must be a number in [0, 1], not {value!r}')
    if not 0 <= float(value) <= 1:
        raise ValueError(f'{what} must be in [0, 1], not {value}')
    return float(value)


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f'{where} has no number: {text!r}') from None
    return _checked(value, f'{where}: a threshold')


def _of_lines(text: str, path: Path) -> list[float]:
    lines = [
        (number, line.strip())
        for number, line in enumerate(split_lines(text), start=1)
        if line.strip()
    ]
    if not lines:
        raise ValueError(f'{path} holds no thresholds')
    if ',' in lines[0][1]:
        raise ValueError(
            f'{path}, line {lines[0][0]} is no number but {lines[0][1][:60]!r}: a table of '
            'thresholds ends in .csv'
        )
    return [_number(line, f'{path}, line {number}') for number, line in lines]


def _of_table(text: str, path: Path) -> dict[str, dict[str, float]]:
    try:
        header, *rows = list(csv.reader(io.StringIO(text), strict=True)) or [[]]
    except csv.Error as error:
        raise ValueError(f'{path} is not a CSV file: {error}') from None
    header = [cell.strip().lower() for cell in header]
    known = ('tag', *KINDS, *NOTES)
    wrong = [cell for cell in header if cell not in known or header.count(cell) > 1]
    if wrong or 'tag' not in header or not set(KINDS) & set(header):
        raise ValueError(
            f'{path} needs a header with the column "tag" and "absolute" or "relative", each '
            f'once; its first line is {",".join(header)[:60]!r}'
        )
    found: dict[str, dict[str, float]] = {}
    for number, row in enumerate(rows, start=2):
        cells = [cell.strip() for cell in row]
        if not any(cells):
            continue
        where = f'{path}, line {number}'
        if len(cells) != len(header):
            raise ValueError(f'{where} has {len(cells)} cells, but the header has {len(header)}')
        line = dict(zip(header, cells, strict=True))
        if not line['tag'] or line['tag'] in found:
            what = f'has {line["tag"]!r} a second time' if line['tag'] else 'names no tag'
            raise ValueError(f'{where} {what}')
        found[line['tag']] = {kind: _number(line[kind], where) for kind in KINDS if line.get(kind)}
    if not found:
        raise ValueError(f'{path} holds no thresholds')
    return found
