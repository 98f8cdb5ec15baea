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
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import cast

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError, features

from .extras import install

# The only formats that are opened. Some other readers of Pillow start programs (EPS: Ghostscript),
# others read files that are not images.
FORMATS = (
    'JPEG', 'PNG', 'WEBP', 'TIFF', 'BMP', 'DIB', 'GIF', 'PPM', 'AVIF', 'JPEG2000', 'HEIF', 'JXL',
)  # fmt: skip
# Formats that not every installation reads, with their endings.
OPTIONAL = {
    'WEBP': ('.webp',),
    'AVIF': ('.avif',),
    'JPEG2000': ('.jp2',),
    'HEIF': ('.heic', '.heif', '.hif'),
    'JXL': ('.jxl',),
}
# Endings of image files in a folder; they are not part of an image's name.
SUFFIXES = (
    '.jpg', '.jpeg', '.png', '.tif', '.tiff', '.bmp', '.gif', '.ppm', '.pgm',
    *(suffix for suffixes in OPTIONAL.values() for suffix in suffixes),
)  # fmt: skip
# What is not read besides files.
LINKED_FOLDER, CLOSED_FOLDER = 'linked folder', 'closed folder'
# Pillow warns of larger images, and refuses images of twice as many pixels.
MAX_PIXELS = 89_478_485
# Encoders write 10 to 25 scans; each costs as much time as a whole image.
MAX_SCANS = 64
# How a bare JPEG XL codestream and a JPEG XL file begin.
JXL_START = b'\xff\x0a'
JXL_CONTAINER = b'\0\0\0\x0cJXL \r\n\x87\n'
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
    with _opened(source, name, max_side, max_pixels) as image:
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
    size = image.size
    _check_size(size, name, max_side, max_pixels)
    if image.info.get('progressive'):
        _check_scans(image, name)
    with _damage(name):
        image.load()
        if image.format == 'HEIF' and image.size != size:  # the limits were for another size
            raise ValueError(f'its header promises {size} pixels, but it has {image.size}')
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
        return (width, height) if _turn(image) in (5, 6, 7, 8) else (height, width)


def upright(image: Image.Image, name: object = 'the image') -> np.ndarray:
    """Convert a PIL image to ``(H, W, 3)`` uint8 RGB, rotated as its EXIF entry says.

    Raises:
        ValueError: See :func:`to_rgb`.
    """
    pixels = to_rgb(image, name)
    turn = _TURNS.get(_turn(image))
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


@cache
def missing_formats() -> dict[str, str]:
    """Formats of :data:`OPTIONAL` that can't be read here, each with what to install."""
    missing = {}
    for kind, module in (('HEIF', 'pillow_heif'), ('JXL', 'pillow_jxl')):
        try:
            plugin = import_module(module)
        except ImportError:
            missing[kind] = install({'HEIF': 'heic', 'JXL': 'jxl'}[kind])
        else:
            if kind == 'HEIF':  # the other one registers itself
                plugin.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)
    Image.init()
    for kind, feature in (('WEBP', 'webp'), ('AVIF', 'avif'), ('JPEG2000', 'jpg_2000')):
        if kind not in Image.OPEN or not features.check(feature):
            missing[kind] = (
                'pip install -U pillow; Pillow 11.3 and newer read AVIF'
                if kind == 'AVIF'
                else f'this Pillow was built without {kind}: pip install -U pillow'
            )
    return missing


def split_files(paths: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """Tell images from other files by their endings.

    Args:
        paths: Files, links, and folders that are not read.

    Returns:
        The images that this installation reads, and what is not read; both in the order of their
        names. What is hidden and no image is left out.
    """
    missing = {suffix for kind in missing_formats() for suffix in OPTIONAL[kind]}
    images: list[Path] = []
    others: list[Path] = []
    for path in sorted(paths):
        suffix = path.suffix.lower()
        if suffix in SUFFIXES and suffix not in missing and path.is_file():
            images.append(path)
        elif not path.name.startswith('.'):
            others.append(path)
    return images, others


def files_below(folder: str | Path) -> list[Path]:
    """List all files below a folder.

    Links to folders are not followed, because they may lead in circles. They are listed, and so
    are folders that may not be read.
    """
    found: list[Path] = []
    for place, folders, files in os.walk(folder, onerror=lambda e: found.append(Path(e.filename))):
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        found.extend(Path(place, name) for name in (*files, *links))
    return found


def images_below(folder: str | Path) -> tuple[list[Path], list[Path]]:
    """List every image below a folder, and what is not read; see :func:`split_files`.

    Raises:
        FileNotFoundError: There is no folder, or no image in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f'there is no folder {folder}')
    images, others = split_files(files_below(folder))
    if not images:
        raise FileNotFoundError(no_image(folder, others))
    return images, others


def no_image(place: object, others: Sequence[Path]) -> str:
    """Say that a folder or pattern has no image, and what it has instead."""
    why = unread_sentence(others) if others else f'endings: {", ".join(SUFFIXES)}'
    return f'no image in {place} ({why})'


def unread_sentence(paths: Iterable[Path]) -> str:
    """Count files that were not read by their endings, and say what to do about which.

    Args:
        paths: The files, links and folders, of which there is at least one.

    Returns:
        ``12 files were not read: 9 .heic (pip install ...), 3 .mov``.
    """
    remedies = {
        suffix: remedy for kind, remedy in missing_formats().items() for suffix in OPTIONAL[kind]
    }
    remedies[LINKED_FOLDER] = 'links are not followed: give the folder itself, too'
    remedies[CLOSED_FOLDER] = 'there is no permission'
    count = Counter(map(_kind, paths))
    parts = []
    for suffix, number in sorted(
        count.items(), key=lambda item: (-item[1], item[0] == '', item[0])
    ):
        remedy = f' ({remedies[suffix]})' if suffix in remedies else ''
        plural = 's' if number > 1 and suffix[:1] not in ('', '.') else ''
        parts.append(f'{number} {suffix or "without an ending"}{plural}{remedy}')
    total = count.total()
    verb = '1 file was' if total == 1 else f'{total} files were'
    return f'{verb} not read: {", ".join(parts)}'


def _kind(path: Path) -> str:
    """What a path that was not read is: its ending, in lower case, or what else it is."""
    if path.is_symlink() and not path.is_file():
        return LINKED_FOLDER if path.is_dir() else 'dead link'
    return CLOSED_FOLDER if path.is_dir() else path.suffix.lower()


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
    return all_different(full)


def all_different(names: Sequence[str]) -> list[str]:
    """Names, of which those that occur again get a number."""
    taken = set(names)
    seen: Counter[str] = Counter()
    different = []
    for name in names:
        seen[name] += 1
        new = name
        while seen[name] > 1 and new in taken:
            new = f'{name}-{seen[name]}'
            seen[name] += new in taken
        taken.add(new)
        different.append(new)
    return different


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


def _check_size(size: tuple[int, int], name: object, max_side: int, max_pixels: int) -> None:
    width, height = size
    for value, key, limit in (
        (max(size), 'max_side', max_side),
        (width * height, 'max_pixels', max_pixels),
    ):
        if value > limit:
            raise ImageTooLarge(
                f'{name} is {width}x{height} pixels, over the limit of {key}={limit}; '
                'raise the limit in LoadImage if there is enough memory'
            )


@contextmanager
def _opened(
    source: str | Path | bytes, name: object, max_side: int = 16384, max_pixels: int = MAX_PIXELS
) -> Iterator[Image.Image]:
    """Open a file as an image without decoding it; JPEG XL is decoded, within the limits."""
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
    missing = missing_formats()
    kind = _sniffed(source)
    if kind in missing:
        raise ValueError(f'{name} is a {kind} image, which is not read here: {missing[kind]}')
    if kind == 'JXL':  # whose reader decodes the image when it opens it
        content = source if isinstance(source, bytes) else Path(source).read_bytes()
        with _damage(name):
            size = jxl_size(content)
        _check_size(size, name, max_side, max_pixels)
    try:
        with _damage(name):
            image = Image.open(file, formats=[one for one in FORMATS if one in Image.OPEN])
    except UnidentifiedImageError:
        raise ValueError(
            f'{name} is not an image of a supported format ({", ".join(FORMATS)})'
        ) from None
    with image:
        yield image


def _sniffed(source: str | Path | bytes) -> str | None:
    """The format of :data:`OPTIONAL` that the first bytes are of; None if they are of another."""
    if isinstance(source, bytes):
        head = source[:12]
    else:
        with Path(source).open('rb') as file:
            head = file.read(12)
    if head[:2] == JXL_START or head == JXL_CONTAINER:
        return 'JXL'
    if head[4:8] == b'ftyp':
        return {b'avif': 'AVIF', b'avis': 'AVIF'}.get(
            head[8:], 'HEIF' if head[8:10] in (b'he', b'mi', b'ms') else None
        )
    return None


def jxl_size(content: bytes) -> tuple[int, int]:
    """Read the size ``(W, H)`` in pixels, before rotation, from the header of a JPEG XL file.

    Raises:
        ValueError: There is no header.
    """
    place = 0
    if content.startswith(JXL_CONTAINER):  # boxes of a length and a name, such as MP4 has
        while content[place + 4 : place + 8] not in (b'jxlc', b'jxlp'):
            length = int.from_bytes(content[place : place + 4], 'big')
            if length == 1:
                length = int.from_bytes(content[place + 8 : place + 16], 'big')
            if length < 8 or place + length >= len(content):
                raise ValueError('there is no codestream')
            place += length
        long = content[place : place + 4] == b'\0\0\0\1'
        place += 8 + 8 * long + 4 * (content[place + 4 : place + 8] == b'jxlp')
    if content[place : place + 2] != JXL_START or len(content) < place + 14:
        raise ValueError('there is no codestream')
    bits = int.from_bytes(content[place + 2 : place + 14], 'little')

    def take(number: int) -> int:
        nonlocal bits
        value = bits & ((1 << number) - 1)
        bits >>= number
        return value

    def side() -> int:
        return 8 * (take(5) + 1) if small else take((9, 13, 18, 30)[take(2)]) + 1

    small = take(1)
    height = side()
    ratio = take(3)
    if ratio == 0:
        return side(), height
    wide, high = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio - 1]
    return height * wide // high, height


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
        reason = ' '.join(str(error).split())
        raise ValueError(f'{name} is a damaged or truncated image: {reason}') from None


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


def _turn(image: Image.Image) -> int:
    """Return the EXIF orientation that is left to be applied, 1 to 8.

    Pillow rotates a TIFF itself. In HEIF and JPEG XL, the image data say how it is rotated, which
    their readers do; EXIF counts only in a JPEG that became a JPEG XL without loss.
    """
    if image.format in ('TIFF', 'HEIF') or (
        image.format == 'JXL' and not getattr(image, 'jpeg', False)
    ):
        return 1
    return _orientation(image)


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
