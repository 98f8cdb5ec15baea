"""Image files to upright RGB pixels, pixels to the patch grid, and index masks."""

import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

# What Pillow's decoders raise on damaged files.
DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    OverflowError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True)
class PatchGrid:
    """How images get to sides that the patch size divides (TagCLIP: ``ceil``), PIL bicubic.

    Attributes:
        patch_size: Of the encoder, in pixels.
        size: ``(H, W)`` in pixels to resize every image to, regardless of its
            shape; its own size if None.
        max_side: Shrink images first whose longer side is longer, in pixels.
        max_patches: Images of more patches are refused: the attention maps of
            ``N`` patches take ``N * N`` numbers each.

    Raises:
        ValueError: ``max_side`` below 1.
    """

    patch_size: int = 16
    size: tuple[int, int] | None = None
    max_side: int | None = None
    max_patches: int = 16384

    def __post_init__(self) -> None:
        if self.max_side is not None and self.max_side < 1:
            raise ValueError(f'max_side must be at least 1, not {self.max_side}')

    def target_size(self, height: int, width: int) -> tuple[int, int]:
        """``(H, W)`` in pixels that an image of this size gets."""
        if self.size is not None:
            height, width = self.size
        elif self.max_side is not None and max(height, width) > self.max_side:
            shrink = self.max_side / max(height, width)
            height, width = max(1, round(height * shrink)), max(1, round(width * shrink))
        patch = self.patch_size
        return math.ceil(height / patch) * patch, math.ceil(width / patch) * patch

    def resize(self, image: np.ndarray, name: object = 'an image') -> np.ndarray:
        """An image ``(H, W, 3)`` uint8 on the grid; the same array where nothing changes.

        Raises:
            ValueError: It makes too many patches; the message names it.
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
        return np.array(resized)  # a copy, which can be written to


def read_image(path: str | Path, max_side: int = 16384) -> np.ndarray:
    """Read an image file.

    Args:
        path: The file.
        max_side: Limit of the longer side, in pixels.

    Returns:
        ``(H, W, 3)`` uint8 RGB in [0, 255], upright.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is empty, truncated, no image or too large; the message
            names it.
    """
    with _opened(path) as image:
        size = image.size
        if max(size) <= max_side:
            return to_rgb(ImageOps.exif_transpose(image))
    raise ValueError(
        f'{path} is {size[0]}x{size[1]} pixels, over the limit of '
        f'max_side={max_side}; raise it in LoadImage if there is enough memory'
    )


def image_size(path: str | Path) -> tuple[int, int]:
    """Size ``(H, W)`` in pixels that :func:`read_image` gives, from the file's header alone.

    Of a PNG whose EXIF entry comes behind the pixels, which is unusual, the size is that before
    it is turned.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is empty or no image; the message names it.
    """
    with _opened(path) as image:
        exif = Image.Image.getexif(image)  # that of Pillow's PNG reader decodes the whole picture
        width, height = image.size
        if image.format == 'TIFF':  # whose size Pillow may have turned already
            width, height = exif[ExifTags.Base.ImageWidth], exif[ExifTags.Base.ImageLength]
        lies = exif.get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
        return (width, height) if lies else (height, width)


@contextmanager
def _opened(path: str | Path) -> Iterator[Image.Image]:
    """A file opened as an image, with one clear error for whatever is wrong with it."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'no image at {path}')
    if path.stat().st_size == 0:
        raise ValueError(f'{path} is an empty file')
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # max_side is the limit here
    try:
        with Image.open(path) as image:
            yield image
    except UnidentifiedImageError:
        raise ValueError(f'{path} is not an image of a known kind') from None
    except DECODER_ERRORS as error:
        raise ValueError(f'{path} is a damaged or truncated image: {error}') from None
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def read_index_mask(path: str | Path) -> np.ndarray:
    """Read a mask whose pixels are indices; of a palette image the indices, not the colours.

    Args:
        path: The file.

    Returns:
        ``(H, W)`` of integers.

    Raises:
        ValueError: It is a colour image; the message names it.
    """
    with Image.open(path) as image:
        if image.mode not in ('L', 'P', 'I', 'I;16'):
            raise ValueError(f'{path} has mode {image.mode}, so it is not an index image')
        return np.asarray(image)


def to_rgb(image: Image.Image) -> np.ndarray:
    """Any PIL image as ``(H, W, 3)`` uint8 RGB; transparent parts become white."""
    if image.mode.startswith('I') or image.mode == 'F':
        values = np.asarray(image).astype(np.float64)
        if image.mode != 'F' or values.max(initial=0) > 255:
            values = values / 257  # 16 bits to 8
        image = Image.fromarray(values.clip(0, 255).round().astype(np.uint8))
    if image.mode in ('RGBA', 'LA', 'PA', 'La', 'RGBa') or 'transparency' in image.info:
        image = image.convert('RGBA')
        white = Image.new('RGBA', image.size, 'white')
        image = Image.alpha_composite(white, image)
    return np.array(image.convert('RGB'))
