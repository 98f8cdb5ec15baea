"""Fetch the content of files; what is not there is told from what can't be reached now."""

import errno
import hashlib
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from .places import GONE, file_system, is_address, open_at, reached

PAUSES = (0.0, 0.5, 2.0)  # seconds before each try of a file


def fetch(paths: Sequence[str]) -> list[bytes | str | None]:
    """Content of files; those of a store that answers several requests are fetched together.

    Args:
        paths: Paths and addresses.

    Returns:
        The content of each; None if there is no such file. A text says why a file of this machine
        can't be read by this user.

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
    contents: list[bytes | str | None] = [None] * len(paths)
    for key, group in groups.items():
        # Not every file system tries again by itself, and the engine would repeat a whole block.
        for pause in PAUSES:
            time.sleep(pause)
            failed = _fetch(systems[key], group, paths, contents)
            if not failed:
                break
            group = [group[place] for place in failed]
        else:
            error = next(iter(failed.values()))
            raise OSError(f'{paths[group[0][0]]} could not be fetched: {error}') from error
    return contents


def is_there(path: str) -> bool:
    """Whether there is a file or folder.

    Raises:
        OSError: It can't be told now.
    """
    # Not `exists`, which takes any trouble for "no"; of http, `info` does.
    return _told(
        path,
        lambda system, inner: (
            system.exists(inner, strict=True)
            if 'http' in system.protocol
            else bool(system.info(inner))
        ),
    )


def is_folder(path: str) -> bool:
    """Whether there is a folder.

    Raises:
        OSError: It can't be told now.
    """
    return _told(
        path,
        lambda system, inner: (
            system.isdir(inner)
            if 'http' in system.protocol
            else system.info(inner)['type'] == 'directory'
        ),
    )


def _told(path: str, ask: Callable[[Any, str], bool]) -> bool:
    system, inner = file_system(path)
    with reached(path):
        try:
            return ask(system, inner)
        except Exception as error:
            if _is_gone(error):
                return False
            raise


def digest_of(path: str) -> str:
    """Digest of a file's content, 32 hexadecimal digits.

    Raises:
        FileNotFoundError: There is no such file.
        OSError: It can't be read now.
    """
    if is_folder(path):
        return ''
    if not is_there(path):
        raise FileNotFoundError(f'there is no list {path}')
    with open_at(path) as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()[:32]


def _is_gone(error: Any) -> bool:
    """Whether an error says that there is no such file, and never will be."""
    if isinstance(error, OSError) and error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
        return True
    no_name = isinstance(error, ValueError) and 'null byte' in str(error)
    return no_name or isinstance(error, GONE)


def _fetch(
    system: Any,
    group: list[tuple[int, str]],
    paths: Sequence[str],
    contents: list[bytes | str | None],
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
        elif isinstance(content, PermissionError) and not is_address(paths[number]):
            contents[number] = str(content)  # of a store, a later try may help
        elif not _is_gone(content):
            failed[place] = content
    return failed
