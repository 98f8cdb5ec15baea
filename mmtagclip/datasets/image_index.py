"""Find what a file says of an image, by path or by name."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar('T')


class ImageIndex(Generic[T]):
    """Entries by the path of their image as written, or else by its name.

    The name is the file's, without folder and ending; it serves only if one
    image alone is called so.

    Args:
        source: What the entries were read from; for messages.
        entries: Paths or ids of images, and what belongs to each.
    """

    def __init__(self, source: str | Path, entries: Iterable[tuple[str, T]]) -> None:
        self.source = source
        self.by_path: dict[str, T] = {}
        self.by_name: dict[str, list[T]] = defaultdict(list)
        for image, entry in entries:
            self.by_path[image] = entry
            self.by_name[Path(image).stem].append(entry)

    def find(self, path: str) -> T:
        """What belongs to an image.

        Raises:
            ValueError: Nothing does, or what belongs to several of its name.
        """
        if path in self.by_path:
            return self.by_path[path]
        found = self.by_name.get(Path(path).stem, [])
        if len(found) != 1:
            number = f'{len(found)} images' if found else 'no image'
            raise ValueError(f'{self.source} has {number} of the name of {path}')
        return found[0]
