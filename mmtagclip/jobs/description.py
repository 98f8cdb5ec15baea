"""Descriptions of jobs as JSON values: stored, told apart, and compared. They need no torch."""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

# Of a stored description: longer values become their digest, and so do larger mappings.
LONGEST_VALUE = 2000
LARGEST_MAPPING = 100


class Source(NamedTuple):
    """An image of a job.

    Attributes:
        name: Its path or name.
        stamp: JSON value that changes when the image's content does, see :func:`file_stamp`.
    """

    name: str
    stamp: Any = None


def file_stamp(path: str | Path) -> list[int] | None:
    """Size in bytes and time of the last change in ns of a file; None if there is none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # a ValueError where a name holds a null character
        return None
    return [status.st_size, status.st_mtime_ns]


def flatten(description: Any, path: str = '') -> dict[str, Any]:
    """A description as one mapping, from the path of a value to the value.

    What is long becomes a digest, so that the whole can be stored and read.
    """
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(description, dict) and len(description) <= LARGEST_MAPPING:
        items = description.items()
    elif isinstance(description, list) and any(isinstance(one, dict) for one in description):
        items = enumerate(description)
    flat = {}
    for key, value in items:
        flat.update(flatten(value, f'{path}.{key}' if path else str(key)))
    if flat or not path:
        return flat
    text = text_of(description)
    return {path: description if len(text) <= LONGEST_VALUE else f'digest {digest(description)}'}


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two flat descriptions, a phrase each; what says most comes first.

    What follows from a named difference is left out: all options of a part whose class differs,
    an equal change of the same option in another part, and digests, unless nothing else differs.
    """
    missing = object()
    changed = [
        key
        for key in {**before, **now}
        if _text_of(before.get(key, missing)) != _text_of(now.get(key, missing))
    ]
    others = tuple(key.removesuffix('class') for key in changed if key.endswith('.class'))
    changed = [
        key
        for key in changed
        if not any(key.startswith(part) and key != f'{part}class' for part in others)
    ]

    def says_little(key: str) -> bool:
        values = (before.get(key, ''), now.get(key, ''))
        return any(isinstance(one, str) and re.search('[0-9a-f]{32}', one) for one in values)

    changed = [key for key in changed if not says_little(key)] or changed
    phrases: dict[tuple, str] = {}
    for key in sorted(changed, key=lambda key: key.count('.')):
        was, is_now = _short(
            *(repr(values[key]) if key in values else 'not there' for values in (before, now))
        )
        same = (tuple(key.split('.')[-2:]), was, is_now)
        phrases.setdefault(same, f'{key} was {was}, now it is {is_now}')
    return list(phrases.values())


def digest(content: Any) -> str:
    """Digest of JSON values, 32 hexadecimal digits."""
    return hash_of(text_of(content).encode(errors='backslashreplace'))


def hash_of(content: Any) -> str:
    """Digest of bytes, 32 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()[:32]


def text_of(content: Any) -> str:
    """JSON values as text, the same for equal values."""
    return json.dumps(content, sort_keys=True, ensure_ascii=False)


def _text_of(value: Any) -> Any:
    """A value as it compares once it was stored: tuples are lists then."""
    return value if type(value) is object else text_of(value)


def _short(was: str, now: str) -> tuple[str, str]:
    """Two texts that differ, cut to some 60 characters that show the first difference."""
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(was, now, strict=False)))
    start = same - 20 if same > 40 and max(len(was), len(now)) > 60 else 0
    return _cut(was, start), _cut(now, start)


def _cut(text: str, start: int) -> str:
    end = '...' if len(text) - start > 60 else ''
    return ('...' if start else '') + text[start : start + 54 if end else None] + end
