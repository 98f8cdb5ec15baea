"""One image's result as a line of JSON, written and read in one place."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# Of an image, in pixels: tables hold sizes as 32-bit numbers.
MAX_SIDE = 2**31 - 1
KEYS = ('image', 'tags', 'scores', 'error', 'size', 'class_scores')


@dataclass(frozen=True)
class ImageRecord:
    """What is known of one image: its tags, or why it could not be read.

    Attributes:
        image: Path or name of the image.
        tags: Names of its tags.
        scores: A score for each tag, None where the model has none; None if there are none at
            all.
        error: What was wrong with the image; None if nothing.
        size: ``(H, W)`` of the image in pixels; None if it is not known.
        class_scores: The score of every class by its name, in the order of the classes; None
            if it was not asked for.
        more: Further keys with JSON values, such as ``masks`` (the path of a mask).

    Raises:
        TypeError: A value of another type.
        ValueError: Tags, scores or size of an image that has an error, another number of scores
            than of tags, a score that is no finite float, a size that is not
            in [1, 2**31 - 1], or a further key that has a meaning already.
    """

    image: str
    tags: tuple[str, ...] = ()
    scores: tuple[float | None, ...] | None = None
    error: str | None = None
    size: tuple[int, int] | None = None
    class_scores: Mapping[str, float] | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key in ('tags', 'scores', 'size'):
            if isinstance(getattr(self, key), list):
                object.__setattr__(self, key, tuple(getattr(self, key)))
        if not isinstance(self.image, str):
            raise TypeError(f'"image" must be a string, not {self.image!r}')
        if not isinstance(self.tags, tuple) or not all(isinstance(tag, str) for tag in self.tags):
            raise TypeError(f'"tags" must be a list of names, not {self.tags!r}')
        if self.error is not None and not isinstance(self.error, str):
            raise TypeError(f'"error" must be a string, not {self.error!r}')
        known = self.tags or self.scores or self.size or self.class_scores
        if self.error is not None and known:
            raise ValueError('an image with an "error" has no "tags", scores or "size"')
        twice = set(KEYS) & self.more.keys()
        if twice:
            raise ValueError(f'{min(twice)!r} can not be a further key')
        self._check_scores()
        self._check_size()

    def _check_size(self) -> None:
        if self.size is None:
            return
        whole = isinstance(self.size, tuple) and all(type(side) is int for side in self.size)
        if not whole or len(self.size) != 2:
            raise TypeError(f'"size" must be [height, width] in pixels, not {self.size!r}')
        if min(self.size) < 1 or max(self.size) > MAX_SIDE:
            raise ValueError(f'"size" must be from 1 to {MAX_SIDE} pixels, not {self.size!r}')

    def _check_scores(self) -> None:
        if self.class_scores is not None:
            if not isinstance(self.class_scores, Mapping):
                raise TypeError(
                    f'"class_scores" must map class names to numbers, not {self.class_scores!r}'
                )
            for one in self.class_scores.values():
                _check_number('class_scores', one, 'numbers')
        if self.scores is None:
            return
        if not isinstance(self.scores, tuple):
            raise TypeError(f'"scores" must be a list of numbers, not {self.scores!r}')
        for score in self.scores:
            if score is not None:
                _check_number('scores', score, 'numbers or null')
        if len(self.scores) != len(self.tags):
            raise ValueError(
                f'"scores" must have a score for each tag: {len(self.scores)} for '
                f'{len(self.tags)} tags'
            )

    def to_dict(self) -> dict[str, Any]:
        """JSON values: ``image``; ``error``, or ``tags``, scores and ``size``; further keys."""
        if self.error is not None:
            return {'image': self.image, 'error': self.error, **self.more}
        record: dict[str, Any] = {'image': self.image, 'tags': list(self.tags)}
        if self.scores is not None:
            record['scores'] = list(self.scores)
        if self.size is not None:
            record['size'] = list(self.size)
        if self.class_scores is not None:
            record['class_scores'] = dict(self.class_scores)
        return {**record, **self.more}

    def to_json(self) -> str:
        """:meth:`to_dict` as one line, without its end."""
        return json.dumps(self.to_dict(), ensure_ascii=False)

    @classmethod
    def from_dict(cls, content: Any) -> 'ImageRecord':
        """The record that :meth:`to_dict` made.

        Raises:
            TypeError: A value of another type.
            ValueError: It is no such record; see the class.
        """
        if not isinstance(content, dict) or not isinstance(content.get('image'), str):
            raise ValueError('a record must be an object with "image" (a string)')
        known = {key: content[key] for key in KEYS if key in content}
        if 'error' not in known and not isinstance(known.get('tags'), list):
            raise ValueError(
                'a record must have "image" (a string) and "tags" (a list of names), or "error"'
            )
        return cls(**known, more={key: content[key] for key in content if key not in known})

    @classmethod
    def from_json(cls, line: str | bytes) -> 'ImageRecord':
        """The record of a line; see :meth:`from_dict`.

        Raises:
            TypeError: A value of another type.
            ValueError: The line is not JSON, or no such record.
        """
        return cls.from_dict(parse_json(line))


def parse_json(text: str | bytes) -> Any:
    """JSON values of a text that may be hostile.

    Raises:
        json.JSONDecodeError: It is no JSON, or nested deeper than Python's stack.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise json.JSONDecodeError('nested too deeply', '', 0) from None


def _check_number(key: str, value: Any, wanted: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f'"{key}" must be {wanted}, not {value!r}')
    try:
        value = float(value)
    except OverflowError:  # a whole number that no float can hold
        value = math.inf
    if not math.isfinite(value):
        raise ValueError(f'"{key}" must be finite, not {value!r}')


def encode_line(text: str) -> bytes:
    """A line as it is stored: UTF-8, where file names that are not become JSON's escapes."""
    return f'{text}\n'.encode(errors='backslashreplace')
