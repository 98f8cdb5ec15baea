"""Fetch the content of files; what is not there is told from what can't be reached now."""

import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from .places import file_system

PAUSES = (0.0, 0.5, 2.0)  # seconds before each try of a file
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
        # Not every file system tries again by itself, and the engine would repeat a whole block.
        for pause in PAUSES:
            time.sleep(pause)
            failed = _fetch(systems[key], group, contents)
            if not failed:
                break
            group = [group[place] for place in failed]
        else:
            error = next(iter(failed.values()))
            raise OSError(f'{paths[group[0][0]]} could not be fetched: {error}') from error
    return contents


def _fetch(
    system: Any, group: list[tuple[int, str]], contents: list[bytes | None]
) -> dict[int, Exception]:
    """Fetch files of one store into their places; returns what failed, by the place in the group.

    What is not there stays None.
    """
    nothing = [None] * len(group)
    # Not `cat`, which takes a name such as "a[1].jpg" for a pattern.
    found = system.cat_ranges([inner for _, inner in group], nothing, nothing, on_error='return')
    failed = {}
    for place, ((number, _), content) in enumerate(zip(group, found, strict=True)):
        if isinstance(content, bytes):
            contents[number] = content
        elif not isinstance(content, GONE):
            failed[place] = content
    return failed
