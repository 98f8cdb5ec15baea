"""What all drawings have in common: text, boxes, bars, and how images are fitted."""

from functools import cache

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..palette import BASE

Colour = tuple[int, int, int]
INK, FAINT, PAPER, TRACK = (32, 33, 36), (110, 112, 118), (255, 255, 255), (228, 230, 234)
ACCENT = BASE[0]
# Boxes are drawn this many times larger, for smooth corners.
SMOOTH = 4


@cache
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The font of all drawings, matplotlib's own, at a size in pixels."""
    name = 'DejaVuSans-Bold.ttf' if bold else 'DejaVuSans.ttf'
    return ImageFont.truetype(f'{matplotlib.get_data_path()}/fonts/ttf/{name}', size)


def fit_text(text: str, width: float, face: ImageFont.FreeTypeFont) -> str:
    """A text that is at most this wide, in pixels; a cut one ends with an ellipsis."""
    text = text[:500]  # measuring takes time
    if face.getlength(text) <= width:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if face.getlength(text[:middle].rstrip() + '…') <= width:
            low = middle
        else:
            high = middle - 1
    return text[:low].rstrip() + '…'


def ink_on(colour: Colour) -> Colour:
    """Black or white, whichever is easier to read on a colour."""
    red, green, blue = ((value / 255) ** 2.2 for value in colour)
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return PAPER if luminance < 0.18 else (0, 0, 0)


def fill_box(
    canvas: Image.Image,
    box: tuple[float, float, float, float],
    colour: Colour,
    radius: float,
    opacity: float = 1.0,
) -> None:
    """Draw a filled box with round corners.

    Args:
        canvas: To draw on.
        box: Left, top, right and bottom, in pixels.
        colour: RGB in [0, 255].
        radius: Of the corners, in pixels.
        opacity: In [0, 1].
    """
    left, top, right, bottom = (round(value) for value in box)
    width, height = right - left, bottom - top
    if width < 1 or height < 1:
        return
    shape = Image.new('L', (width * SMOOTH, height * SMOOTH))
    ImageDraw.Draw(shape).rounded_rectangle(
        (0, 0, width * SMOOTH - 1, height * SMOOTH - 1),
        min(radius, width / 2, height / 2) * SMOOTH,
        fill=round(255 * opacity),
    )
    canvas.paste(colour, (left, top), shape.resize((width, height), Image.Resampling.BOX))


def fill_bar(
    canvas: Image.Image, box: tuple[float, float, float, float], share: float, colour: Colour
) -> None:
    """Draw a bar on a track that is as long as 1.

    Args:
        canvas: To draw on.
        box: Of the track: left, top, right and bottom, in pixels.
        share: Length of the bar, in [0, 1].
        colour: Of the bar.
    """
    left, top, right, bottom = box
    radius = (bottom - top) / 2
    fill_box(canvas, box, TRACK, radius)
    length = (right - left) * min(max(share, 0.0), 1.0)
    fill_box(canvas, (left, top, left + length, bottom), colour, radius)


def resized(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """An image in another size, ``(height, width, ...)``, smooth in both directions."""
    smaller = width * height < image.shape[0] * image.shape[1]
    method = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    return cv2.resize(image, (max(1, width), max(1, height)), interpolation=method)
