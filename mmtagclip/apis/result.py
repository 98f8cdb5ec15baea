"""What results of one image have in common: they compare, print and draw themselves."""

import io
import sys
import threading
import weakref
from collections import OrderedDict
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..files import make_folder, write_image
from .inputs import ImageInput, list_images

# Bytes of images in memory that results keep; a drawing is shrunk to this side in a notebook.
KEPT_BYTES = 256 << 20
NOTEBOOK_SIDE = 1200
SHOWN = 5  # entries that a result prints


class KeptImage:
    """An image that a result is drawn over.

    A file is read again. An image in memory is kept, without a copy, until the result is
    dropped, or until later images need its place: all of them have :data:`KEPT_BYTES`. It is not
    pickled.

    Args:
        image: The image.
    """

    _all: 'OrderedDict[int, weakref.ref[KeptImage]]' = OrderedDict()
    _total = 0
    _lock = threading.RLock()

    def __init__(self, image: ImageInput) -> None:
        self.image: ImageInput | None = image
        self._bytes = _size(image.source)
        if not self._bytes:
            return
        with self._lock:
            KeptImage._all[id(self)] = weakref.ref(self)
            KeptImage._total += self._bytes
            while KeptImage._total > KEPT_BYTES and len(KeptImage._all) > 1:
                oldest = next(iter(KeptImage._all.values()))()
                assert oldest is not None  # else it would have left
                oldest.leave()

    def leave(self) -> None:
        """Forget the image."""
        with self._lock:
            if KeptImage._all.pop(id(self), None) is not None:
                KeptImage._total -= self._bytes
                self.image = None

    __del__ = leave

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()


def _size(source: Any) -> int:
    """Bytes that an image in memory has; 0 for a file."""
    if isinstance(source, Image.Image):
        return 4 * source.width * source.height
    if isinstance(source, bytes):
        return len(source)
    return source.nbytes if isinstance(source, np.ndarray) else 0


class ImageResult:
    """The result of one image.

    Two results are equal if all that they hold is, arrays included; the image that they are drawn
    over does not count.
    """

    image: str
    size: tuple[int, int]
    classes: tuple[str, ...]
    error: str | None
    source: KeptImage | None

    def describe(self) -> dict[str, str]:
        """What is in the image, most important first: names, each with a number for people."""
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(
            _equal(getattr(self, field.name), getattr(other, field.name))
            for field in fields(self)  # type: ignore[arg-type]
            if field.compare
        )

    def __hash__(self) -> int:
        return hash((self.image, self.size, self.classes, self.error, *self.describe().items()))

    def __repr__(self) -> str:
        if self.error is not None:
            said = f'error: {self.error}'
        else:
            entries = [f'{name} {number}' for name, number in self.describe().items()]
            more = [f'{len(entries) - SHOWN} more'] if len(entries) > SHOWN else []
            height, width = self.size
            said = f'{width}x{height}, ' + (', '.join(entries[:SHOWN] + more) or 'nothing found')
        return ' '.join(f'{type(self).__name__}({self.image!r}, {said})'.split())

    def draw(self, image: Any = None) -> np.ndarray:
        """Draw the result over its image.

        Args:
            image: The image, in any form that an inferencer takes. By default the file, which is
                read again, or the image in memory; of these only the last 256 MiB are kept.

        Returns:
            ``(H', W', 3)`` uint8 RGB.

        Raises:
            FileNotFoundError: The file is gone.
            ValueError: The image is no longer in memory, has another size now, or could not be
                read when the result was made.
        """
        if self.error is not None:
            raise ValueError(f'there is nothing to draw: {self.error}')
        from ..visualization import draw_result

        return draw_result(self._pixels(image), self)

    def save(self, path: str | Path, image: Any = None) -> None:
        """Write the drawing of the result.

        Args:
            path: The file; its ending names the format.
            image: See :meth:`draw`.

        Raises:
            ValueError: See :meth:`draw`, or an ending of no format.
        """
        make_folder(Path(path).parent)
        write_image(path, self.draw(image))

    def show(self, image: Any = None) -> None:
        """Show the drawing of the result: in a notebook below the cell, else in a window.

        Args:
            image: See :meth:`draw`.

        Raises:
            RuntimeError: There is no program here that shows images.
        """
        picture = Image.fromarray(self.draw(image))
        shell = getattr(sys.modules.get('IPython'), 'get_ipython', lambda: None)()
        if hasattr(shell, 'kernel'):
            from IPython.display import display

            display(picture)
            return
        from PIL import ImageShow  # here: it imports IPython, where that is installed

        if not ImageShow.show(picture, title=self.image):
            raise RuntimeError('no program here shows images: use save(path) instead')

    def _repr_png_(self) -> bytes | None:
        """The drawing for a notebook; None if there is no image to draw over."""
        try:
            picture = Image.fromarray(self.draw())
        except (ValueError, OSError):
            return None
        picture.thumbnail((NOTEBOOK_SIDE, NOTEBOOK_SIDE), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        picture.save(buffer, format='PNG')
        return buffer.getvalue()

    def _pixels(self, image: Any) -> np.ndarray:
        kept = None if self.source is None else self.source.image
        if image is not None:
            (kept,) = list_images([image])
        if kept is None:
            raise ValueError(f'{self.image} is not in memory: pass the image, as in draw(image)')
        pixels = kept.read(sys.maxsize)
        if pixels.shape[:2] != tuple(self.size):
            height, width = self.size
            raise ValueError(
                f'{kept.name} is {pixels.shape[1]}x{pixels.shape[0]} pixels, but the result is of '
                f'an image of {width}x{height}'
            )
        return pixels


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        same = getattr(one, 'dtype', None) == getattr(other, 'dtype', None)
        return same and bool(np.array_equal(one, other))
    return bool(one == other)
