"""Fetch the content of files; what is not there is told from what can't be reached now."""

from collections import defaultdict
from collections.abc import Sequence

from .places import file_system

GONE = (FileNotFoundError, IsADirectoryError, NotADirectoryError)


def fetch(paths: Sequence[str]) -> list[bytes | None]:
    """Content of files; those of a store that answers several requests are fetched together.

    Args:
        paths: Paths and addresses.

    Returns:
        The content of each; None if there is no such file.

    Raises:
        ImportError: A file system's package is not installed.
        OSError: Any other trouble, such as a store that is overloaded or refuses access. It may
            pass, so the engine has to try again; the message names the file.
    """
    groups: dict[int, list[tuple[int, str]]] = defaultdict(list)
    systems = {}
    for number, path in enumerate(paths):
        system, inner = file_system(path)
        systems[id(system)] = system
        groups[id(system)].append((number, inner))
    contents: list[bytes | None] = [None] * len(paths)
    for key, group in groups.items():
        # Not `cat`, which takes a name such as "a[1].jpg" for a pattern.
        nothing = [None] * len(group)
        try:
            found = systems[key].cat_ranges(
                [inner for _, inner in group], nothing, nothing, on_error='return'
            )
        except Exception as error:
            found = [error] * len(group)
        for (number, _), content in zip(group, found, strict=True):
            if isinstance(content, GONE):
                continue
            if isinstance(content, BaseException):
                raise OSError(f'{paths[number]} could not be fetched: {content}') from content
            contents[number] = content
    return contents
