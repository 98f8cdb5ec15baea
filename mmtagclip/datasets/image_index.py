"""Find the entry of an image in a file, by path or by name."""

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

    def find(self, path: str) -> T:
        """Return the entry of an image.

        Raises:
            ValueError: No entry has its name, or several do.
        """
        if path in self.by_path:
            return self.by_path[path]
        asked = Path(path)
        named = self.by_name.get(image_stem(path), [])
        for found in (
            named,
            _longest(one for one in named if _is_end(asked, one[0])),
            _longest(one for one in named if _is_end(_bare(asked), _bare(one[0]))),
            [one for one in named if one[0].suffix == asked.suffix],
        ):
            if len(found) == 1:
                return found[0][1]
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
