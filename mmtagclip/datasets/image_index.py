"""Find what a file says of an image, by path or by name."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Generic, TypeVar

from ..images import image_stem

T = TypeVar('T')


class ImageIndex(Generic[T]):
    """Entries by the path of their image as written, or else by its name.

    The name is the file's, without folder and ending; where several images are
    called so, the one whose written path is the end of the path, or else whose
    ending is the same, if that is one alone.

    Args:
        source: What the entries were read from; for messages.
        entries: Paths or ids of images, and what belongs to each.
    """

    def __init__(self, source: str | Path, entries: Iterable[tuple[str, T]]) -> None:
        self.source = source
        self.by_path: dict[str, T] = {}
        self.by_name: dict[str, list[tuple[Path, T]]] = defaultdict(list)
        for image, entry in entries:
            self.by_path[image] = entry
            self.by_name[image_stem(image)].append((Path(image), entry))

    def find(self, path: str) -> T:
        """What belongs to an image.

        Raises:
            ValueError: Nothing does, or what belongs to several of its name.
        """
        if path in self.by_path:
            return self.by_path[path]
        asked = Path(path)
        named = self.by_name.get(image_stem(path), [])
        for found in (
            named,
            [one for one in named if asked.parts[-len(one[0].parts) :] == one[0].parts],
            [one for one in named if one[0].suffix == asked.suffix],
        ):
            if len(found) == 1:
                return found[0][1]
        number = f'{len(named)} images' if named else 'no image'
        raise ValueError(f'{self.source} has {number} of the name of {path}')
