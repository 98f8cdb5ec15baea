"""Folders of files: nothing of others is replaced, and a second start completes the first."""

import os
from pathlib import Path

from ..files import make_folder, place_whole, sync_folder
from . import Options
from .results import Entry


class Folder:
    """A folder to export to.

    Files appear whole. One that is there with the same content is left alone, so an interrupted
    export is completed by the same command; one with another content is refused.

    Args:
        root: The folder.
        options: Of the export.
    """

    def __init__(self, root: Path, options: Options) -> None:
        self.root = root
        self.options = options
        self._touched: set[Path] = set()
        self._names: set[Path] = set()

    def write(self, name: str, *content: bytes) -> None:
        """Write a file.

        Raises:
            FileExistsError: It is there with another content.
        """
        path, whole = self.root / name, b''.join(content)
        self._names.add(path)
        if path.is_file() and path.read_bytes() == whole:
            return
        self._check_free(path)
        place_whole(path, whole)
        self._touched.add(path.parent)

    def image(self, name: str, entry: Entry) -> None:
        """Put an image there: a symbolic link to it, or a copy.

        Raises:
            FileExistsError: Something else has the name.
            FileNotFoundError: There is no such image.
        """
        path, source = self.root / name, entry.path.absolute()
        self._names.add(path)
        if not source.is_file():
            raise FileNotFoundError(
                f'no image at {source}: start in the folder of the run, or give --root'
            )
        if self.options.copy:
            self.write(name, source.read_bytes())
            return
        if path.is_symlink() and os.readlink(path) == str(source):
            return
        self._check_free(path)
        make_folder(path.parent)
        path.unlink(missing_ok=True)
        try:
            path.symlink_to(source)
        except OSError as error:
            raise OSError(f'{path} can not be a link ({error.strerror}): add --copy') from None
        self._touched.add(path.parent)

    def close(self, *own: str) -> None:
        """Make all that was written safe.

        Args:
            *own: Folders of which each file is read as part of the results.

        Raises:
            FileExistsError: One of them has a file of other results.
        """
        for folder in self._touched:
            sync_folder(folder)
        files = (path for name in own for path in (self.root / name).rglob('*'))
        others = sorted(
            path
            for path in files
            if path not in self._names and not path.is_dir() and not path.name.startswith('.')
        )
        if others:
            raise FileExistsError(
                f'{others[0]} is not of these results, but would be read with them: remove it '
                f'({len(others)} such files), or write to another folder'
            )

    def _check_free(self, path: Path) -> None:
        if not self.options.overwrite and (path.exists() or path.is_symlink()):
            raise FileExistsError(
                f'{path} exists already with another content; add --overwrite to replace it'
            )
