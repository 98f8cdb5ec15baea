"""Find the entry of an image in a file, by path or by name."""

import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Generic, TypeVar

from ..images import image_stem

T = TypeVar('T')


class ImageIndex(Generic[T]):
    """Entries that are found by the image's path as written, or else by its name.

    The name is the file name without folder and ending. If several entries have
    this name, the first of these rules with exactly one match decides: the longest
    written path that is the end of the requested path; the same without endings; the
    ending is the same.

    Args:
        source: Source of the entries; for messages.
        entries: Path or id of each image, and its entry.
    """

    def __init__(self, source: str | Path, entries: Iterable[tuple[str, T]]) -> None:
        self.source = source
        self.by_path: dict[str, T] = {}
        self.by_name: dict[str, list[tuple[Path, T]]] = defaultdict(list)
        for image, entry in entries:
            self.by_path[image] = entry
            self.by_name[image_stem(image)].append((Path(image), entry))
        self._owners: dict[Path, str] = {}

    def find(self, path: str) -> T:
        """Return the entry of an image.

        Raises:
            ValueError: No entry has its name, or several do.
        """
        return self._find(path)[1]

    def find_own(self, path: str) -> T:
        """Return the entry of an image, which no other image has found with this method.

        Raises:
            ValueError: No entry has its name, or several do, or another image has the same entry.
        """
        written, entry = self._find(path)
        owner = self._owners.setdefault(written, path)
        if os.path.abspath(owner) != os.path.abspath(path):
            raise ValueError(
                f'{self.source} has one entry, {written}, for two images, {owner} and {path}: '
                'write their folders into it'
            )
        return entry

    def _find(self, path: str) -> tuple[Path, T]:
        """The entry of an image, and its path as written."""
        if path in self.by_path:
            return Path(path), self.by_path[path]
        asked = Path(path)
        named = self.by_name.get(image_stem(path), [])
        for found in (
            named,
            _longest(one for one in named if _is_end(asked, one[0])),
            _longest(one for one in named if _is_end(_bare(asked), _bare(one[0]))),
            [one for one in named if one[0].suffix == asked.suffix],
        ):
            if len(found) == 1:
                return found[0]
        number = f'{len(named)} images' if named else 'no image'
        raise ValueError(f'{self.source} has {number} with the name of {path}')


def _is_end(path: Path, end: Path) -> bool:
    return path.parts[-len(end.parts) :] == end.parts


def _bare(path: Path) -> Path:
    return path.with_name(image_stem(path))


def _longest(entries: Iterable[tuple[Path, T]]) -> list[tuple[Path, T]]:
    """Those of the longest path."""
    found = list(entries)
    most = max((len(path.parts) for path, _ in found), default=0)
    return [one for one in found if len(one[0].parts) == most]
