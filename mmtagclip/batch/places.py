"""Files and folders, on this machine or wherever fsspec finds them."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..extras import require
from ..files import user_path, write_whole, write_whole_to

# The package that reads addresses of a protocol, and the extra that brings it.
PACKAGES = {
    'http': ('aiohttp', 'http'),
    'https': ('aiohttp', 'http'),
    's3': ('s3fs', 's3'),
    's3a': ('s3fs', 's3'),
    'gs': ('gcsfs', 'gs'),
    'gcs': ('gcsfs', 'gs'),
}


LOCAL = 'file://'


def is_address(text: str) -> bool:
    """Whether a text is an address, such as ``s3://bucket/a.jpg``, and not a path."""
    return '://' in text and not text.startswith(LOCAL)


def absolute(text: str) -> str:
    """A path that means the same in every process, or an address as it is."""
    if not is_address(text):
        return os.path.abspath(user_path(text.removeprefix(LOCAL)))
    head, chained, last = text.rpartition('::')  # a file in another, such as zip://a.jpg::/b.zip
    return f'{head}::{absolute(last)}' if chained else text


def file_system(text: str) -> tuple[Any, str]:
    """Fsspec's file system of a path or address, and the path as the file system names it.

    Raises:
        ImportError: The file system's package is not installed.
        ValueError: There is no such protocol.
    """
    import fsspec

    if not is_address(text):
        return fsspec.filesystem('file'), absolute(text)
    for part in text.split('::'):
        package = PACKAGES.get(part.partition('://')[0])
        if package is not None:
            require(*package, f'{part.partition("://")[0]}://')
    try:
        return fsspec.core.url_to_fs(absolute(text))
    except ValueError as error:
        raise ValueError(f'{text} can not be opened: {error}') from None


def write_at(address: str, content: Iterable[bytes]) -> None:
    """Write a file of a path or an address; it appears whole."""
    if is_address(address):
        write_whole_to(*file_system(address), content)
    else:
        write_whole(absolute(address), content)


class Place:
    """A folder of this machine or of a store.

    Args:
        address: Its path or address.

    Attributes:
        address: The path, absolute, or the address; without a ``/`` at the end.
        filesystem: fsspec's file system.
        root: The folder, as the file system names it.
        is_local: Whether it is a path of this machine.

    Raises:
        ImportError: The file system's package is not installed.
        ValueError: There is no such protocol.
    """

    def __init__(self, address: str) -> None:
        self.is_local = not is_address(address)
        self.address = absolute(address).rstrip('/')
        self.filesystem, root = file_system(self.address)
        self.root = root.rstrip('/')

    def path(self, name: str) -> str:
        """A file of the folder, as the file system names it."""
        return f'{self.root}/{name}'

    def files(self, folder: str = '', ending: str = '') -> list[str]:
        """Names of the files that lie directly in a folder of it, sorted; none if there is none.

        Args:
            folder: Below this one; this one itself if empty.
            ending: Of the names.
        """
        self.filesystem.invalidate_cache()
        try:
            found = self.filesystem.ls(self.path(folder).rstrip('/'), detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return []
        names = [one['name'].rpartition('/')[2] for one in found if one['type'] == 'file']
        return sorted(name for name in names if name and name.endswith(ending))

    def is_empty(self) -> bool:
        """Whether there is no file in it, or below it."""
        self.filesystem.invalidate_cache()
        return not self.filesystem.exists(self.root) or not self.filesystem.find(self.root)

    def read(self, name: str) -> bytes | None:
        """Content of a file; None if there is none."""
        self.filesystem.invalidate_cache()
        try:
            return self.filesystem.cat_file(self.path(name))
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes | Iterable[bytes]) -> None:
        """Write a file that appears whole."""
        if self.is_local:
            write_whole(Path(self.path(name)), content)
        else:
            write_whole_to(self.filesystem, self.path(name), content)

    def open(self, name: str, columns: bool = False) -> Any:
        """Open a file to read bytes.

        Args:
            name: Of the file.
            columns: Whether only parts are read. Reading ahead would fetch the whole from a store.
        """
        options = {'cache_type': 'none'} if columns and not self.is_local else {}
        return self.filesystem.open(self.path(name), 'rb', **options)

    def remove(self, name: str) -> None:
        """Remove a folder of it with all that is in it."""
        if self.filesystem.exists(self.path(name)):
            self.filesystem.rm(self.path(name), recursive=True)

    def arrow_filesystem(self) -> Any:
        """The same as a file system of pyarrow."""
        from pyarrow import fs

        if self.is_local:
            return fs.LocalFileSystem()
        return fs.PyFileSystem(fs.FSSpecHandler(self.filesystem))
