"""A file system that forgets at a power failure what was not flushed: what would be there then."""

import os
from pathlib import Path


class Forgetful:
    """Watches a folder and keeps, after each operation, what a power failure would leave.

    Two failures are kept: one that forgets all names and contents that were not flushed, and one
    that has every name and forgets contents alone, as journaling file systems may. Operations are
    those of ``os`` that the package writes with: open, fsync, replace, unlink, mkdir and rmdir.

    Args:
        root: The folder.
        monkeypatch: Pytest's.
    """

    def __init__(self, root, monkeypatch):
        self.root = Path(root)
        self.contents = {}  # what is safe of each file, by its number
        self.names = {self._number(self.root): {}}  # what is safe of each folder
        self.failures = []
        self.calls = []
        for call in ('open', 'fsync', 'replace', 'unlink', 'mkdir', 'rmdir'):
            monkeypatch.setattr(os, call, self._watched(call, getattr(os, call)))

    def _watched(self, name, real):
        def call(*args, **kwargs):
            result = real(*args, **kwargs)
            number = None
            if name == 'open' and args[1] & os.O_CREAT:
                if os.fstat(result).st_size == 0:  # the number may be that of a file before
                    self.contents.pop(os.fstat(result).st_ino, None)
                number = ()
            elif name == 'fsync':
                self._flush(args[0])
                number = ()
            elif name != 'open':
                number = ()
            if number is not None:
                self.calls.append((name, *map(str, args[:2])))
                self.failures.append((self._flushed(self.root), self._named(self.root)))
            return result

        return call

    def _flush(self, handle):
        path = Path(os.readlink(f'/proc/self/fd/{handle}'))
        if path.is_dir():
            self.names[self._number(path)] = {
                one.name: (self._number(one), one.is_dir()) for one in path.iterdir()
            }
        else:
            self.contents[os.fstat(handle).st_ino] = path.read_bytes()

    def _flushed(self, root):
        """Names and contents that were flushed."""

        def walk(number, prefix):
            for name, (child, is_folder) in self.names.get(number, {}).items():
                if is_folder:
                    yield from walk(child, f'{prefix}{name}/')
                else:
                    yield f'{prefix}{name}', self.contents.get(child, b'')

        return dict(walk(self._number(root), ''))

    def _named(self, root):
        """All names, with the contents that were flushed."""
        return {
            path.relative_to(root).as_posix(): self.contents.get(self._number(path), b'')
            for path in root.rglob('*')
            if path.is_file()
        }

    @staticmethod
    def _number(path):
        return path.stat().st_ino


def restore(files, folder):
    """Write the files that a failure left into a folder."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder
