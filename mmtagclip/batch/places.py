"""Files and folders, on this machine or wherever fsspec finds them."""

import contextlib
import io
import os
from collections.abc import Iterable, Iterator
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
FLAT = {'s3', 'gs'}  # stores whose `find` lists all at once, without folders, and raises errors
GONE = (FileNotFoundError, IsADirectoryError, NotADirectoryError)


@contextlib.contextmanager
def reached(address: str) -> Iterator[None]:
    """Name a place in what its file system raises, as an ``OSError``, which engines try again.

    Stores raise errors of their own kinds: for missing credentials, a host that is not there, 503.
    Only what a file system does belongs into the ``with``, so that other errors stay as they are.

    Args:
        address: Path or address, for the message.

    Raises:
        ImportError: As it was raised.
        OSError: Anything else; as it was raised if there is no such file, or if it names a file.
        ValueError: As it was raised.
    """
    try:
        yield
    except (ImportError, ValueError, *GONE):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise
        why = str(error) or type(error).__name__
        raise OSError(f'{address} can not be reached: {why}') from error


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
        OSError: The archive that an address names can't be opened.
        ValueError: There is no such protocol.
    """
    import fsspec

    if not is_address(text):
        return fsspec.filesystem('file'), absolute(text)
    check_address(text)
    try:
        with reached(text):
            return fsspec.core.url_to_fs(absolute(text))
    except ValueError as error:
        raise ValueError(f'{text} can not be opened: {error}') from None


def protocols_of(address: str) -> tuple[str, ...]:
    """The protocols that an address names, such as ``('zip', 's3')``."""
    return tuple(part.partition('://')[0] for part in address.split('::') if '://' in part)


def check_address(address: str) -> None:
    """Refuse an address that nothing here opens, without opening anything.

    Raises:
        ImportError: The file system's package is not installed.
        ValueError: There is no such protocol.
    """
    import fsspec

    for protocol in protocols_of(address):
        if protocol in PACKAGES:
            require(*PACKAGES[protocol], f'{protocol}://')
        try:
            fsspec.get_filesystem_class(protocol)
        except ValueError as error:
            raise ValueError(f'{address} can not be opened: {error}') from None


def write_at(address: str, content: bytes | Iterable[bytes]) -> None:
    """Write a file of a path or an address; it appears whole.

    Raises:
        OSError: The disk is full, or the store refuses the file.
    """
    if is_address(address):
        _put(*file_system(address), address, content)
    else:
        write_whole(absolute(address), content)


def _put(system: Any, inner: str, address: str, content: bytes | Iterable[bytes]) -> None:
    def put(file: str) -> None:
        with reached(address):
            system.put_file(file, inner)

    write_whole_to(put, content)


def open_at(address: str) -> io.RawIOBase:
    """Open a file of a path or an address to read bytes; it raises what :func:`reached` does."""
    return _File(*file_system(address), address)


def full_name(inner: str, address: str) -> str:
    """Path or address of what a file system names, found at another path or address."""
    if not is_address(address):
        return inner
    _, chained, rest = absolute(address).partition('::')
    return file_system(address)[0].unstrip_protocol(inner) + chained + rest


def files_like(address: str) -> list[str]:
    """Paths or addresses of the files and folders that a pattern names, sorted.

    Raises:
        OSError: It can't be told now.
    """
    system, inner = file_system(address)
    with reached(address):
        return [full_name(one, address) for one in sorted(system.glob(inner))]


def files_below(address: str) -> Iterator[str]:
    """Every file below a folder, as the file system names it, in no order; links are not followed.

    Raises:
        FileNotFoundError: There is no such folder.
        OSError: A folder below it can't be listed; the message names it.
    """
    return _below(*file_system(address), address)


def _below(system: Any, root: str, address: str) -> Iterator[str]:
    protocols = {system.protocol} if isinstance(system.protocol, str) else {*system.protocol}
    if protocols & FLAT:
        with reached(address):
            yield from system.find(root)
        return
    folders = [root]
    while folders:
        folder = folders.pop()
        # Not `find` or `walk`, which leave out a folder that can't be listed.
        with reached(address if folder == root else system.unstrip_protocol(folder)):
            try:
                found = system.ls(folder, detail=True)
            except FileNotFoundError:  # removed since
                if folder == root:
                    raise
                continue
        for one in found:
            name = one['name'].rstrip('/')
            if one['type'] != 'directory':
                yield one['name']
            elif name != folder:
                folders.append(name)


class _File(io.RawIOBase):
    """A file that is open to read bytes; it raises what :func:`reached` does."""

    def __init__(self, system: Any, inner: str, address: str, **options: Any) -> None:
        self.address = address
        with reached(address):
            self.file = system.open(inner, 'rb', **options)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self.file.seekable()

    def readinto(self, buffer: Any) -> int:
        with reached(self.address):
            content = self.file.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()

    def close(self) -> None:
        if not self.closed and hasattr(self, 'file'):  # it is not there if it could not be opened
            self.file.close()
        super().close()


class Place:
    """A folder of this machine or of a store. Its methods raise what :func:`reached` does.

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
            with reached(self.address):
                found = self.filesystem.ls(self.path(folder).rstrip('/'), detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return []
        names = [one['name'].rpartition('/')[2] for one in found if one['type'] == 'file']
        return sorted(name for name in names if name and name.endswith(ending))

    def is_empty(self) -> bool:
        """Whether there is no file in it, or below it."""
        self.filesystem.invalidate_cache()
        try:
            return not any(_below(self.filesystem, self.root, self.address))
        except FileNotFoundError:
            return True

    def read(self, name: str) -> bytes | None:
        """Content of a file; None if there is none."""
        self.filesystem.invalidate_cache()
        try:
            with reached(f'{self.address}/{name}'):
                return self.filesystem.cat_file(self.path(name))
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes | Iterable[bytes]) -> None:
        """Write a file that appears whole."""
        if self.is_local:
            write_whole(self.path(name), content)
        else:
            _put(self.filesystem, self.path(name), f'{self.address}/{name}', content)

    def open(self, name: str, columns: bool = False) -> Any:
        """Open a file to read bytes.

        Args:
            name: Of the file.
            columns: Whether only parts are read. Reading ahead would fetch the whole from a store.
        """
        options = {'cache_type': 'none'} if columns and not self.is_local else {}
        return _File(self.filesystem, self.path(name), f'{self.address}/{name}', **options)

    def remove(self, name: str) -> None:
        """Remove a folder of it with all that is in it, or a file, if it is there."""
        with contextlib.suppress(FileNotFoundError), reached(f'{self.address}/{name}'):
            self.filesystem.rm(self.path(name), recursive=True)

    def arrow_filesystem(self) -> Any:
        """The same as a file system of pyarrow."""
        from pyarrow import fs

        if self.is_local:
            return fs.LocalFileSystem()
        return fs.PyFileSystem(fs.FSSpecHandler(self.filesystem))
