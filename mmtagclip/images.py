"""Read image files as upright RGB pixels, resize pixels to the patch grid, and read index masks.

Every file is read or refused with one sentence that names it. The cost of a file is limited before
its pixels are decoded: to :data:`MAX_PIXELS` of at most 12 bytes each, and to :data:`MAX_SCANS`
passes over them.
"""

import io
import math
import os
import re
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

# The only formats that are opened. Some other readers of Pillow start programs (EPS: Ghostscript),
# others read files that are not images.
FORMATS = ('JPEG', 'PNG', 'WEBP', 'TIFF', 'BMP', 'DIB', 'GIF', 'PPM', 'AVIF', 'JPEG2000')
# Endings of image files in a folder; they are not part of an image's name.
SUFFIXES = (
    '.jpg', '.jpeg', '.png', '.webp', '.tif', '.tiff', '.bmp', '.gif', '.ppm', '.pgm', '.avif',
    '.jp2',
)  # fmt: skip
# Pillow warns of larger images, and refuses images of twice as many pixels.
MAX_PIXELS = 89_478_485
# Encoders write 10 to 25 scans; each costs as much time as a whole image.
MAX_SCANS = 64
# Pixels that are converted together; no more are in memory besides the image and the result.
STRIP_PIXELS = 1 << 20
_TURNS = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: pixels.swapaxes(0, 1)[:, ::-1],
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: pixels.swapaxes(0, 1)[::-1],
}
# From 16 to 8 bits.
_EIGHT_BITS = (np.arange(65536) / 257).round().astype(np.uint8)


class ImageTooLarge(ValueError):
    """The image would need more memory or time than is allowed."""


@dataclass(frozen=True)
class PatchGrid:
    """Resizes images to the next multiples of the patch size (TagCLIP: ``ceil``), PIL bicubic.

    Attributes:
        patch_size: Patch size of the encoder in pixels.
        size: ``(H, W)`` in pixels for every image, regardless of its shape. Default:
            the image's size.
        max_side: Images whose longer side is longer, in pixels, are shrunk first.
        max_patches: Images of more patches are refused, because each attention map
            of ``N`` patches has ``N * N`` numbers.

    Raises:
        ValueError: ``max_side`` is below 1.
    """

    patch_size: int = 16
    size: tuple[int, int] | None = None
    max_side: int | None = None
    max_patches: int = 16384

    def __post_init__(self) -> None:
        if self.max_side is not None and self.max_side < 1:
            raise ValueError(f'max_side must be at least 1, not {self.max_side}')

    def target_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the size ``(H, W)`` in pixels to which an image of this size is resized."""
        if self.size is not None:
            height, width = self.size
        elif self.max_side is not None and max(height, width) > self.max_side:
            shrink = self.max_side / max(height, width)
            height, width = max(1, round(height * shrink)), max(1, round(width * shrink))
        patch = self.patch_size
        return math.ceil(height / patch) * patch, math.ceil(width / patch) * patch

    def resize(self, image: np.ndarray, name: object = 'an image') -> np.ndarray:
        """Resize an image ``(H, W, 3)`` uint8 to the grid; returns the same array if it fits.

        Raises:
            ValueError: The image makes too many patches; the message names it.
        """
        old_height, old_width = image.shape[:2]
        height, width = self.target_size(old_height, old_width)
        patches = (height // self.patch_size) * (width // self.patch_size)
        if patches > self.max_patches:
            raise ValueError(
                f'{name} of {old_width}x{old_height} pixels makes {patches} patches of '
                f'{self.patch_size}, more than max_patches={self.max_patches}; set max_side of '
                'ResizeToPatchGrid, or --max-side, to shrink such images'
            )
        if (height, width) == (old_height, old_width):
            return image
        resized = Image.fromarray(np.ascontiguousarray(image)).resize(
            (width, height), Image.Resampling.BICUBIC
        )
        return np.array(resized)  # a copy that can be written to


def read_image(
    source: str | Path | bytes,
    max_side: int = 16384,
    max_pixels: int = MAX_PIXELS,
    name: object = None,
) -> np.ndarray:
    """Read an image file.

    Args:
        source: Path of the file, or its content.
        max_side: Maximum of the longer side in pixels.
        max_pixels: Maximum number of pixels. Pillow also has a limit,
            ``2 * PIL.Image.MAX_IMAGE_PIXELS``.
        name: Name of the image in messages. Default: its path.

    Returns:
        ``(H, W, 3)`` uint8 RGB in [0, 255], upright.

    Raises:
        FileNotFoundError: There is no such file.
        ImageTooLarge: It would need more memory or time than is allowed.
        ValueError: It is empty, truncated or not an image. Each message names it.
    """
    name = _called(source, name)
    with _opened(source, name) as image:
        return decode(image, max_side, max_pixels, name)


def decode(
    image: Image.Image,
    max_side: int = 16384,
    max_pixels: int = MAX_PIXELS,
    name: object = 'the image',
) -> np.ndarray:
    """Convert a PIL image, decoded or not, within the limits of :func:`read_image`.

    Args:
        image: The image.
        max_side: Maximum of the longer side in pixels.
        max_pixels: Maximum number of pixels.
        name: Name of the image in messages.

    Returns:
        ``(H, W, 3)`` uint8 RGB in [0, 255], upright.

    Raises:
        ImageTooLarge: It would need more memory or time than is allowed.
        ValueError: It is truncated or damaged. Each message names it.
    """
    width, height = image.size
    for limit, value, size in (
        ('max_side', max_side, max(width, height)),
        ('max_pixels', max_pixels, width * height),
    ):
        if size > value:
            raise ImageTooLarge(
                f'{name} is {width}x{height} pixels, over the limit of {limit}={value}; '
                'raise the limit in LoadImage if there is enough memory'
            )
    if image.info.get('progressive'):
        _check_scans(image, name)
    with _damage(name):
        image.load()
        return upright(image, name)


def image_size(path: str | Path) -> tuple[int, int]:
    """Read from the file's header the size ``(H, W)`` in pixels that :func:`read_image` returns.

    If a PNG has its EXIF entry after the pixels, which is unusual, the size is the one before
    rotation.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is empty or not an image; the message names it.
    """
    with _opened(path, path) as image:
        width, height = image.size
        if image.format == 'TIFF':  # Pillow has already rotated this size
            return height, width
        return (width, height) if _orientation(image) in (5, 6, 7, 8) else (height, width)


def upright(image: Image.Image, name: object = 'the image') -> np.ndarray:
    """Convert a PIL image to ``(H, W, 3)`` uint8 RGB, rotated as its EXIF entry says.

    Raises:
        ValueError: See :func:`to_rgb`.
    """
    pixels = to_rgb(image, name)
    # Pillow rotates a TIFF itself when it decodes it.
    turn = None if image.format == 'TIFF' else _TURNS.get(_orientation(image))
    return pixels if turn is None else np.ascontiguousarray(turn(pixels))


def to_rgb(image: Image.Image, name: object = 'the image') -> np.ndarray:
    """Convert any PIL image to ``(H, W, 3)`` uint8 RGB; transparent parts become white.

    16-bit values become 8-bit values. The range of floating-point values is the narrowest that
    they fit: [0, 1], 8 bits or 16 bits.

    Raises:
        ValueError: The values are out of every range, or 16-bit values use only 9 to 12 bits, so
            the image may be dark or may have fewer bits.
    """
    width, height = image.size
    convert = _converter(image, name)
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    rows = max(1, STRIP_PIXELS // max(1, width))
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        strip = convert(image.crop((0, top, width, bottom)))
        pixels[top:bottom] = strip if strip.ndim == 3 else strip[..., None]
    return pixels


def image_stem(path: str | Path) -> str:
    """Return the file name of an image without folder and ending; other dots are kept."""
    path = Path(path)
    return path.stem if path.suffix.lower() in SUFFIXES else path.name


def common_folder(names: Iterable[str]) -> Path:
    """The deepest folder that all images lie in, absolute.

    Args:
        names: Paths of the images; names of images in memory lie in the working folder.
    """
    folders = {os.path.dirname(os.path.abspath(name)) for name in names}
    return Path(os.path.commonpath(folders) if folders else os.getcwd())


def file_names(names: Sequence[str]) -> list[str]:
    """Paths of images below their common folder, with ``/``.

    Args:
        names: Paths of the images, or names of images in memory.
    """
    root = common_folder(names)
    return [Path(os.path.abspath(name)).relative_to(root).as_posix() for name in names]


def output_stems(names: Sequence[str]) -> list[str]:
    """Names of output files: the images' own, relative to their common folder, all different.

    Args:
        names: Paths of the images, or names of images in memory.

    Returns:
        One per image, with ``/``, and without ending unless two images differ only
        in it.
    """
    paths = file_names(names)
    stems = [Path(path).with_suffix('').as_posix() for path in paths]
    count = Counter(stems)
    full = [path if count[stem] > 1 else stem for path, stem in zip(paths, stems, strict=True)]
    seen: Counter[str] = Counter()
    unique = []
    for stem in full:
        seen[stem] += 1
        unique.append(stem if seen[stem] == 1 else f'{stem}-{seen[stem]}')
    return unique


def read_index_mask(path: str | Path) -> np.ndarray:
    """Read a mask whose pixels are indices; a palette image gives its indices, not its colours.

    Args:
        path: The file.

    Returns:
        ``(H, W)``, integers.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is a colour image, damaged or not an image; the message names it.
    """
    with _opened(path, path) as image:
        if image.mode not in ('L', 'P', 'I', 'I;16'):
            raise ValueError(f'{path} has mode {image.mode}, so it is not an index image')
        with _damage(path):
            return np.asarray(image)


def _called(source: str | Path | bytes, name: object) -> object:
    if name is None:
        return 'the image' if isinstance(source, bytes) else source
    return name


@contextmanager
def _opened(source: str | Path | bytes, name: object) -> Iterator[Image.Image]:
    """Open a file as an image without decoding it."""
    if isinstance(source, bytes):
        file: io.BytesIO | Path = io.BytesIO(source)
        empty = not source
    else:
        file = Path(source)
        if not file.is_file():
            raise FileNotFoundError(f'no image at {file}')
        empty = file.stat().st_size == 0
    if empty:
        raise ValueError(f'{name} is an empty file')
    try:
        with _damage(name):
            Image.init()
            image = Image.open(file, formats=[kind for kind in FORMATS if kind in Image.OPEN])
    except UnidentifiedImageError:
        raise ValueError(
            f'{name} is not an image of a supported format ({", ".join(FORMATS)})'
        ) from None
    with image:
        yield image


@contextmanager
def _damage(name: object) -> Iterator[None]:
    """Turn all errors of decoders into one clear error: each decoder has other errors."""
    try:
        yield
    except (UnidentifiedImageError, FileNotFoundError, PermissionError):
        raise
    except MemoryError:
        raise ValueError(f'{name} needs more memory to be decoded than is available') from None
    except Image.DecompressionBombError as error:
        raise ImageTooLarge(f'{name} is too large: {error}') from None
    except _Refused as error:
        raise ValueError(str(error)) from None
    except Exception as error:
        raise ValueError(f'{name} is a damaged or truncated image: {error}') from None


class _Refused(ValueError):
    """An undamaged image that is refused; the message is complete."""


def _check_scans(image: Image.Image, name: object) -> None:
    """Refuse a progressive JPEG with more passes over its pixels than any encoder writes."""
    file = getattr(image, 'fp', None)
    if file is None:
        return
    place = file.tell()
    file.seek(0)
    scans = count_scans(file.read())
    file.seek(place)
    if scans > MAX_SCANS:
        raise ImageTooLarge(
            f'{name} is a JPEG of {scans} scans, over the limit of {MAX_SCANS}; save it again '
            'with another program'
        )


def count_scans(content: bytes) -> int:
    """Count the scans of a JPEG file, which are passes over its pixels."""
    scans, place = 0, 2
    marker = re.compile(rb'\xff+[^\x00\xd0-\xd7\xff]')
    while (found := marker.search(content, place)) is not None:
        kind, place = content[found.end() - 1], found.end()
        if kind == 0xD9:  # the end of the image; another image may follow
            return scans
        scans += kind == 0xDA
        place += int.from_bytes(content[place : place + 2], 'big')
    return scans


def _converter(image: Image.Image, name: object) -> Callable[[Image.Image], np.ndarray]:
    """Return the function that converts a strip of the image to uint8 RGB, or grey."""
    if image.mode == 'F':
        low, high = cast(tuple[float, float], image.getextrema())
        top = next((top for top in (1, 255, 65535) if 0 <= low <= high <= top), None)
        if top is None:
            raise _Refused(
                f'{name} has floating-point values from {low} to {high}, outside [0, 65535]: '
                'scale them to [0, 1]'
            )
        return lambda strip: _finite(np.asarray(strip), name, 255 / top)
    if image.mode.startswith('I'):
        low, high = cast(tuple[int, int], image.getextrema())
        if low < 0 or high > 65535:
            raise _Refused(
                f'{name} has values from {low} to {high}, which is neither 8 nor 16 bits'
            )
        if 255 < high < 4096:
            raise _Refused(
                f'{name} has 16-bit values, but only up to {high}: it is nearly black or has 12 '
                'bits; save it with 8 bits'
            )
        return lambda strip: _EIGHT_BITS[np.asarray(strip)]
    if image.mode in ('RGBA', 'LA', 'PA', 'La', 'RGBa') or 'transparency' in image.info:
        return _on_white
    return lambda strip: np.asarray(strip.convert('RGB'))


def _finite(values: np.ndarray, name: object, factor: float) -> np.ndarray:
    if not np.isfinite(values).all():
        raise _Refused(f'{name} has values that are not finite')
    return (values * factor).round().astype(np.uint8)


def _on_white(strip: Image.Image) -> np.ndarray:
    strip = strip.convert('RGBA')
    white = Image.new('RGBA', strip.size, 'white')
    return np.asarray(Image.alpha_composite(white, strip).convert('RGB'))


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 if it is missing or can't be read.

    Other parts of the EXIF entry are not read, so they can't cause errors.
    """
    found = _orientation_in(image.info.get('exif'))
    if found is None:  # other places: XMP, text of a PNG
        with suppress(Exception):
            # The `getexif` of Pillow's PNG reader would decode the whole image.
            found = Image.Image.getexif(image).get(ExifTags.Base.Orientation)
    return found if found in _TURNS else 1


def _orientation_in(exif: object) -> int | None:
    """Read the orientation from the first IFD of an EXIF entry; Pillow would read all of it."""
    if not isinstance(exif, bytes):
        return None
    start = 6 if exif.startswith(b'Exif\x00\x00') else 0
    order = {b'II': '<', b'MM': '>'}.get(exif[start : start + 2])
    try:
        if order is None:
            return None
        (place,) = struct.unpack_from(f'{order}I', exif, start + 4)
        (count,) = struct.unpack_from(f'{order}H', exif, start + place)
        for entry in range(start + place + 2, start + place + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(f'{order}HH', exif, entry)
            if tag == ExifTags.Base.Orientation and kind == 3:
                return struct.unpack_from(f'{order}H', exif, entry + 8)[0]
    except struct.error:
        pass
    return None
