"""One picture of an image's mask: colours over the photograph, and a legend beside them."""
from collections.abc import Sequence
from functools import cache

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

IGNORED = 255
# Longer side of the photograph in a picture, in pixels: text is of one size whatever the image's.
LONGER_SIDE = 900
MARGIN, ROW, FONT_SIZE = 12, 26, 16


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """The font of all pictures, matplotlib's own, at a size in pixels."""
    return ImageFont.truetype(matplotlib.get_data_path() + '/fonts/ttf/DejaVuSans.ttf', size)


def draw_masks(image: np.ndarray, mask: np.ndarray, classes: Sequence[str],
               palette: Sequence[Sequence[int]], background: int | None = None,
               opacity: float = 0.55, title: str = '') -> np.ndarray:
    """Draw a mask over its image, with a legend of the classes that occur.

    The legend names them from the largest to the smallest, with their share of
    the image.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        mask: ``(H, W)`` labels; 255 is nothing.
        classes: Name of each label.
        palette: RGB colour of each label, in [0, 255].
        background: Label that is left as the photograph has it; None if there is none.
        opacity: Of the colours, in [0, 1].
        title: Of the legend.

    Returns:
        ``(H', W', 3)`` uint8 RGB, the photograph's longer side 900 pixels.

    Raises:
        ValueError: Mask and image differ in size, or a label has no name.
    """
    mask = np.asarray(mask)
    if mask.shape != image.shape[:2]:
        raise ValueError(f'the image is {image.shape[1]}x{image.shape[0]} pixels, but its mask '
                         f'{mask.shape[-1]}x{mask.shape[0]}')
    labels, counts = np.unique(mask, return_counts=True)
    shares = {int(label): count / mask.size for label, count in zip(labels, counts, strict=True)
              if label != IGNORED}
    if shares and max(shares) >= min(len(classes), len(palette)):
        raise ValueError(f'the mask has the label {max(shares)}, but there are {len(classes)} '
                         f'classes and {len(palette)} colours')
    scale = LONGER_SIDE / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    photograph = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1
                            else cv2.INTER_LINEAR).astype(np.float32)
    large = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    shown = [label for label in sorted(shares, key=lambda label: -shares[label])
             if label != background]
    for label in shown:
        here = large == label
        colour = np.asarray(palette[label], dtype=np.float32)
        photograph[here] = photograph[here] * (1 - opacity) + colour * opacity
        outlines, _ = cv2.findContours(here.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(photograph, outlines, -1, (255, 255, 255), 3)
        cv2.drawContours(photograph, outlines, -1, colour.tolist(), 1)
    return _beside(photograph.round().astype(np.uint8),
                   [(classes[label], shares[label], palette[label]) for label in shown], title)


def _beside(picture: np.ndarray, entries: list[tuple[str, float, Sequence[int]]], title: str
            ) -> np.ndarray:
    """A picture with its legend on the right, in as many columns as its height asks for."""
    text = font(FONT_SIZE)
    texts = [f'{name}  {_percent(share)}' for name, share, _ in entries] or ['no class']
    colours: list[Sequence[int] | None] = [colour for _, _, colour in entries] or [None]
    if title:
        texts, colours = [title, *texts], [None, *colours]
    height = max(picture.shape[0], ROW + 2 * MARGIN)
    rows = max(1, (height - 2 * MARGIN) // ROW)
    columns = [range(start, min(start + rows, len(texts)))
               for start in range(0, len(texts), rows)]
    swatch = ROW - 8
    widths = [swatch + 8 + round(max(text.getlength(texts[i]) for i in column)) + 2 * MARGIN
              for column in columns]
    canvas = Image.new('RGB', (picture.shape[1] + sum(widths) + MARGIN, height), 'white')
    canvas.paste(Image.fromarray(picture))
    draw = ImageDraw.Draw(canvas)
    left = picture.shape[1] + 2 * MARGIN
    for column, width in zip(columns, widths, strict=True):
        for row, index in enumerate(column):
            top = MARGIN + row * ROW
            colour = colours[index]
            if colour is not None:
                draw.rectangle((left, top, left + swatch, top + swatch),
                               fill=tuple(int(value) for value in colour), outline='black')
            draw.text((left + (swatch + 8 if colour is not None else 0), top + swatch / 2),
                      texts[index], fill='black', font=text, anchor='lm')
        left += width
    return np.array(canvas)


def _percent(share: float) -> str:
    return '<0.1%' if share < 0.0005 else f'{100 * share:.1f}%'
