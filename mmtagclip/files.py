r"""Files that appear whole or not at all, and lines that end at ``\n`` and nowhere else."""

import contextlib
import io
import json
import math
import os
import re
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from PIL import Image

Content = bytes | Iterable[bytes]
LONGEST_HEADER = 100_000_000  # of safetensors, in bytes


def write_whole(path: str | Path, *content: Content, scratch: Path | None = None) -> None:
    """Write a file that appears whole under its name, and survives a power failure afterwards.

    When this returns, it is safe to remove whatever the file was made of. Missing folders are
    made. A symbolic link at ``path`` is replaced, its target is left alone.

    Args:
        path: The file.
        *content: Its bytes, in parts.
        scratch: Folder on the same file system for the temporary file; the file's own if None.

    Raises:
        OSError: The disk is full, or the like; an earlier file of the name stays as it was.
    """
    place_whole(path, *content, scratch=scratch)
    sync_folder(Path(path).parent)


def place_whole(
    path: str | Path, *content: Content, scratch: Path | None = None, durable: bool = True
) -> None:
    """The first half of :func:`write_whole`: only the folder is left to be flushed.

    For many files in few folders: place them all, then call :func:`sync_folder` once a folder.

    Args:
        path: As in :func:`write_whole`.
        *content: The same.
        scratch: The same.
        durable: Whether to flush the file, which takes milliseconds. Without, a power failure
            may leave a torn file: only for what can be made again, and is checked when read.
    """
    path = Path(path)
    if durable:
        make_folder(path.parent)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
    # A name that nobody can guess, and that is never opened if it is there already.
    temporary = (scratch or path.parent) / f'.{uuid.uuid4().hex}.part'
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    handle = os.open(temporary, flags | getattr(os, 'O_BINARY', 0), 0o666)
    try:
        with os.fdopen(handle, 'wb') as file:
            for part in content:
                file.writelines([part] if isinstance(part, bytes) else part)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def move(source: Path, target: Path) -> None:
    """Give a file on the same file system another name; it replaces a file of this name.

    Both folders are left to be flushed, see :func:`sync_folder`: the target's first.

    Raises:
        FileNotFoundError: There is no such file.
    """
    make_folder(target.parent)
    os.replace(source, target)


def write_whole_to(put: Callable[[str], Any], *content: Content) -> None:
    """Write a file of another store, such as a bucket, that appears whole under its name.

    It is written to a temporary file of this machine first: closing a stream to a store after an
    error would leave what was written so far under the name.

    Args:
        put: Copies the file of this path to the store.
        *content: Its bytes, in parts.

    Raises:
        OSError: The disk is full; also what ``put`` raises.
    """
    with tempfile.NamedTemporaryFile() as file:
        for part in content:
            file.writelines([part] if isinstance(part, bytes) else part)
        file.flush()
        put(file.name)


def write_image(path: str | Path, pixels: np.ndarray, **options: Any) -> None:
    """Write an image as :func:`write_whole` does, in the format that its ending names.

    Args:
        path: The file.
        pixels: ``(H, W)`` or ``(H, W, 3)`` uint8, RGB.
        **options: Of PIL's ``save``.

    Raises:
        ValueError: An ending of no format.
    """
    kind = Image.registered_extensions().get(Path(path).suffix.lower())
    if kind is None:
        raise ValueError(f'{path}: the ending names no format of images')
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=kind, **options)
    write_whole(path, buffer.getvalue())


def safetensors_content(
    tensors: Mapping[str, tuple[str, Sequence[int], Iterable[bytes]]],
    metadata: Mapping[str, str],
    advice: str,
) -> Iterator[bytes]:
    """The content of a safetensors file, piece by piece; the library would hold all of it.

    Args:
        tensors: Type (``'F32'``), shape and content (little endian, in pieces) of each.
        metadata: Of the file.
        advice: What to do if the paths in the metadata are too long, for the message.

    Raises:
        ValueError: The metadata are too long for the format.
    """
    header: dict[str, Any] = {'__metadata__': dict(metadata)}
    end = 0
    for name, (kind, shape, _) in tensors.items():
        start, end = end, end + math.prod(shape) * int(kind[1:]) // 8
        header[name] = {'dtype': kind, 'shape': list(shape), 'data_offsets': [start, end]}
    text = json.dumps(header).encode()
    text += b' ' * (-len(text) % 8)
    if len(text) > LONGEST_HEADER:
        raise ValueError(f'the paths of so many images do not fit into safetensors: {advice}')
    yield len(text).to_bytes(8, 'little')
    yield text
    for _, _, content in tensors.values():
        yield from content


def append_lines(path: str | Path, lines: bytes) -> None:
    """Append whole lines to a file of a folder that is there; they are safe when this returns."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, 'O_NOFOLLOW', 0)
    handle = os.open(path, flags | getattr(os, 'O_BINARY', 0), 0o666)
    with os.fdopen(handle, 'ab') as file:
        is_new = os.fstat(handle).st_size == 0
        file.write(lines)
        file.flush()
        os.fsync(handle)
    if is_new:  # whose name is not safe yet
        sync_folder(Path(path).parent)


def make_folder(path: Path) -> None:
    """Make a folder, and those that it lies in, so that they survive a power failure."""
    if path.is_dir():
        return
    make_folder(path.parent)
    try:
        os.mkdir(path)
    except FileExistsError:
        if not path.is_dir():
            raise
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the names of the files in a folder survive a power failure."""
    if os.name == 'nt':  # folders can't be opened there
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def whole_lines(path: str | Path) -> Iterator[bytes]:
    r"""Lines of a file with their end, ``\n``; a last line without one was cut off: dropped."""
    with Path(path).open('rb') as file:
        for line in file:
            if line.endswith(b'\n'):
                yield line


def split_lines(text: str) -> list[str]:
    r"""Lines of a text, which end with ``\n`` or ``\r\n`` alone.

    ``str.splitlines`` also cuts at U+2028, U+2029, U+0085, ``\x0b`` and others, which a class
    name or a file name may hold.
    """
    lines = text.split('\n')
    return [line.removesuffix('\r') for line in (lines[:-1] if lines[-1] == '' else lines)]


def read_text(path: str | Path, what: str) -> str:
    r"""The text of a user's file in UTF-8, with or without a mark of byte order.

    Args:
        path: The file; ``~`` is the home folder.
        what: What it should be, for the messages, such as ``'tag file'``.

    Returns:
        The text, whose lines end with ``\n`` (``\r\n`` and ``\r`` are replaced).

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no text, or has another encoding.
    """
    path = user_path(path)
    if not path.is_file():
        raise FileNotFoundError(f'no {what} at {path}')
    try:
        text = path.read_text(encoding='utf-8-sig')
    except UnicodeDecodeError as error:
        raise ValueError(
            f'{path} is not a UTF-8 text file ({error.reason}): save the {what} as UTF-8'
        ) from None
    if re.search('[\x00-\x08\x0e-\x1b]', text):
        raise ValueError(f'{path} is not a text file: give a {what} in UTF-8')
    return text


def is_plain(text: str) -> bool:
    """Whether lines and XML can hold a text: no control characters or halves of pairs."""
    return re.search('[\x00-\x1f\ud800-\udfff\ufffe\uffff]', text) is None


def user_path(path: str | Path) -> Path:
    """A path as users type it: ``~`` and ``~/...`` are in their home folder.

    Any other name that begins with ``~`` is the name of a file. ``Path.expanduser`` takes it for
    the home folder of a user, and fails where there is no such user.
    """
    first, *others = Path(path).parts or ('',)
    return Path(os.path.expanduser('~'), *others) if first == '~' else Path(path)


def default_cache_dir() -> Path:
    """Folder of the cached text features, in the user's cache directory."""
    return Path(platformdirs.user_cache_dir('mmtagclip')) / 'text'


def real_path(path: str | Path) -> Path:
    """A path without symbolic links, as far as they lead anywhere.

    ``Path.resolve`` fails at a link that leads to itself.
    """
    return Path(os.path.realpath(path))
