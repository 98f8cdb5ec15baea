"""A figure of an image's mask: colours over the image, and a legend beside them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..labels import IGNORED, label_counts

# Longer side of the image in a figure, in pixels: text has the same size for all images.
LONGER_SIDE = 900
MARGIN, ROW, FONT_SIZE = 12, 26, 16
# The legend of a flat image has this many rows, if there are so many classes.
LEAST_ROWS = 10
# Minimum distance in RGB of two colours that are easy to tell apart.
FAR = 110
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class LegendEntry:
    """A class in the figure of a mask.

    Attributes:
        label: Its label in the mask.
        name: Its name.
        share: The share of the image that it covers, in [0, 1].
        colour: RGB in [0, 255].
    """

    label: int
    name: str
    share: float
    colour: Colour


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """The font of all figures, matplotlib's own, at a size in pixels."""
    return ImageFont.truetype(matplotlib.get_data_path() + '/fonts/ttf/DejaVuSans.ttf', size)


def draw_masks(
    image: np.ndarray,
    mask: np.ndarray,
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    background: int | None = None,
    opacity: float = 0.55,
    title: str = '',
    with_legend: bool = True,
) -> np.ndarray:
    """Draw a mask over its image, with a legend of the classes that occur.

    The legend names them from the largest to the smallest, with their share of
    the image.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        mask: ``(H, W)`` labels; 255 is nothing.
        classes: Name of each label.
        palette: RGB colour of each label, in [0, 255].
        background: Label that is not coloured; None if there is none.
        opacity: Opacity of the colours, in [0, 1].
        title: Title of the legend.
        with_legend: Whether the legend is drawn.

    Returns:
        ``(H', W', 3)`` uint8 RGB; the image's longer side has 900 pixels.

    Raises:
        ValueError: Mask and image differ in size, or a label has no name.
    """
    mask = np.asarray(mask)
    if mask.shape != image.shape[:2]:
        raise ValueError(
            f'the image is {image.shape[1]}x{image.shape[0]} pixels, but its mask '
            f'{mask.shape[-1]}x{mask.shape[0]}'
        )
    entries = mask_legend(mask, classes, palette, background)
    scale = LONGER_SIDE / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    shown = cv2.resize(
        image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    ).astype(np.float32)
    large = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    for entry in entries:
        here = large == entry.label
        shown[here] = (
            shown[here] * (1 - opacity) + np.asarray(entry.colour, dtype=np.float32) * opacity
        )
        outlines, _ = cv2.findContours(here.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(shown, outlines, -1, (255, 255, 255), 3)
        cv2.drawContours(shown, outlines, -1, entry.colour, 1)
    drawn = shown.round().astype(np.uint8)
    return _beside(drawn, entries, title) if with_legend else drawn


def mask_legend(
    mask: np.ndarray,
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    background: int | None = None,
) -> list[LegendEntry]:
    """The classes in the figure of a mask, from the largest to the smallest.

    Args:
        mask: ``(H, W)`` labels; 255 is nothing.
        classes: Name of each label.
        palette: RGB colour of each label, in [0, 255]. A class whose colour is too
            similar to that of a larger one gets another.
        background: Label that is left out; None if there is none.

    Raises:
        ValueError: A label has no name or colour.
    """
    shares = {
        label: count / mask.size for label, count in label_counts(mask).items() if label != IGNORED
    }
    if shares and max(shares) >= min(len(classes), len(palette)):
        raise ValueError(
            f'the mask has the label {max(shares)}, but there are {len(classes)} '
            f'classes and {len(palette)} colours'
        )
    entries: list[LegendEntry] = []
    for label in sorted(shares, key=lambda label: -shares[label]):
        if label == background:
            continue
        red, green, blue = (int(value) for value in palette[label])
        colour = _distinct((red, green, blue), [entry.colour for entry in entries])
        entries.append(LegendEntry(label, classes[label], shares[label], colour))
    return entries


def _distinct(colour: Colour, used: Sequence[Colour]) -> Colour:
    """A colour far enough from those in use: the given one, or one of matplotlib's twenty."""
    tab20: Any = matplotlib.colormaps['tab20']
    spare: list[Any] = [tuple(round(255 * value) for value in one) for one in tab20.colors]

    def distance(one: Colour) -> float:
        return min(
            (float(np.linalg.norm(np.subtract(one, other))) for other in used), default=np.inf
        )

    near = [one for one in (colour, *spare) if distance(one) >= FAR]
    return near[0] if near else colour


def _beside(drawn: np.ndarray, entries: Sequence[LegendEntry], title: str) -> np.ndarray:
    """A figure with its legend on the right, in as many columns as its height requires."""
    text = font(FONT_SIZE)
    texts = [f'{shorten(entry.name, 40)}  {_percent(entry.share)}' for entry in entries] or [
        'no class'
    ]
    colours: list[Colour | None] = [entry.colour for entry in entries] or [None]
    if title:
        texts, colours = [title, *texts], [None, *colours]
    height = max(drawn.shape[0], ROW * min(len(texts), LEAST_ROWS) + 2 * MARGIN)
    rows = max(1, (height - 2 * MARGIN) // ROW)
    columns = [range(start, min(start + rows, len(texts))) for start in range(0, len(texts), rows)]
    swatch = ROW - 8
    widths = [
        swatch + 8 + round(max(text.getlength(texts[i]) for i in column)) + 2 * MARGIN
        for column in columns
    ]
    canvas = Image.new('RGB', (drawn.shape[1] + sum(widths) + MARGIN, height), 'white')
    canvas.paste(Image.fromarray(drawn))
    draw = ImageDraw.Draw(canvas)
    left = drawn.shape[1] + 2 * MARGIN
    for column, width in zip(columns, widths, strict=True):
        for row, index in enumerate(column):
            top = MARGIN + row * ROW
            colour = colours[index]
            if colour is not None:
                draw.rectangle(
                    (left, top, left + swatch, top + swatch), fill=colour, outline='black'
                )
            draw.text(
                (left + (swatch + 8 if colour is not None else 0), top + swatch / 2),
                texts[index],
                fill='black',
                font=text,
                anchor='lm',
            )
        left += width
    return np.array(canvas)


def shorten(name: str, length: int) -> str:
    """A name, cut after this many characters, with an ellipsis."""
    return name if len(name) <= length else f'{name[: length - 1].rstrip()}…'


def _percent(share: float) -> str:
    return '<0.1%' if share < 0.0005 else f'{100 * share:.1f}%'
