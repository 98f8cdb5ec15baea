"""A page of thumbnails with captions."""

from collections.abc import Callable, Iterable

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from .canvas import FAINT, INK, PAPER, fill_box, fit_text, font

GAP, LINES = 14, 3
CARD, BROKEN, CROSS = (238, 240, 243), (224, 224, 224), (213, 94, 0)


def contact_sheet(
    images: Iterable[tuple[np.ndarray | None, str]], columns: int = 5, side: int = 240
) -> np.ndarray:
    """Arrange images on a page, each on a card with its caption.

    Args:
        images: Images ``(H, W, 3)`` uint8 RGB, or None for one that could not be
            read, each with its caption. What is before the first ``': '``, such as
            a file's name, is a separate line; the rest is cut after three lines.
        columns: Images per row.
        side: Side of the square that each image is fitted into, in pixels.

    Returns:
        ``(H', W', 3)`` uint8 RGB.

    Raises:
        ValueError: There is no image, or a number is below 1.
    """
    cells = [(_thumbnail(image, side), caption) for image, caption in images]
    if not cells or columns < 1 or side < 1:
        raise ValueError('a contact sheet needs at least one image, one column and one pixel')
    columns = min(columns, len(cells))
    size = max(10, side // 15)
    small, face = font(max(9, size - 3)), font(size)
    line, margin = round(1.3 * size), size // 2
    texts = [_text(caption, side - 2 * margin, small, face) for _, caption in cells]
    rows = [slice(start, start + columns) for start in range(0, len(cells), columns)]
    # A row is as high as its longest caption requires.
    heights = [
        side + 2 * margin + line * max(bool(title) + len(lines) for title, lines in texts[row])
        for row in rows
    ]
    page = Image.new(
        'RGB', (columns * (side + GAP) + GAP, sum(heights) + GAP * (len(rows) + 1)), PAPER
    )
    draw = ImageDraw.Draw(page)
    top = GAP
    for row, height in zip(rows, heights, strict=True):
        left = GAP
        for (thumbnail, _), (title, lines) in zip(cells[row], texts[row], strict=True):
            fill_box(page, (left, top, left + side, top + height), CARD, margin)
            across, down = (side - thumbnail.width) // 2, (side - thumbnail.height) // 2
            page.paste(thumbnail, (left + across, top + down))
            below = top + side + margin
            if title:
                draw.text((left + margin, below), title, fill=FAINT, font=small)
                below += line
            for words in lines:
                draw.text((left + margin, below), words, fill=INK, font=face)
                below += line
            left += side + GAP
        top += height + GAP
    return np.array(page)


def _text(
    caption: str, width: float, small: ImageFont.FreeTypeFont, face: ImageFont.FreeTypeFont
) -> tuple[str, list[str]]:
    """The first line of a caption, and the lines of the rest."""
    title, colon, rest = caption.partition(': ')
    if not colon:
        title, rest = '', caption
    return fit_text(title, width, small), wrap(rest, width, face.getlength)


def wrap(caption: str, width: float, measure: Callable[[str], float]) -> list[str]:
    """Break a caption into at most three lines; a cut caption ends with an ellipsis.

    Args:
        caption: The text; it is broken at its spaces, or within a word that is too long.
        width: Width of a line, in pixels.
        measure: Returns the width of a text, in pixels.
    """
    lines = ['']
    for word in caption.split():
        while measure(word) > width and len(word) > 1:  # a word longer than a line
            cut = max(
                1,
                next((n for n in range(1, len(word)) if measure(word[: n + 1]) > width), len(word)),
            )
            lines[-1:] = [*filter(None, [lines[-1]]), word[:cut], '']
            word = word[cut:]
        joined = f'{lines[-1]} {word}'.strip()
        if measure(joined) <= width:
            lines[-1] = joined
        else:
            lines.append(word)
    lines = [line for line in lines if line]
    if len(lines) <= LINES:
        return lines
    last = lines[LINES - 1]
    while last and measure(last + '…') > width:
        last = last[:-1]
    return [*lines[: LINES - 1], last + '…']


def _thumbnail(image: np.ndarray | None, side: int) -> Image.Image:
    if image is None:
        crossed = Image.new('RGB', (side, side), BROKEN)
        ImageDraw.Draw(crossed).line((0, 0, side, side), fill=CROSS, width=3)
        return crossed
    return ImageOps.contain(Image.fromarray(image), (side, side))
