"""A page of thumbnails with captions."""

from collections.abc import Callable, Iterable

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from .mask_figure import font

GAP, LINES, FONT_SIZE = 10, 3, 13


def contact_sheet(
    images: Iterable[tuple[np.ndarray | None, str]], columns: int = 5, side: int = 200
) -> np.ndarray:
    """Arrange images on a page.

    Args:
        images: Images ``(H, W, 3)`` uint8 RGB, or None for one that could not be
            read, each with its caption; captions are cut after three lines.
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
    text = font(FONT_SIZE)
    line = FONT_SIZE + 4
    width, height = side + GAP, side + LINES * line + 2 * GAP
    rows = -(-len(cells) // columns)
    page = Image.new('RGB', (columns * width + GAP, rows * height + GAP), 'white')
    draw = ImageDraw.Draw(page)
    for index, (thumbnail, caption) in enumerate(cells):
        left, top = GAP + index % columns * width, GAP + index // columns * height
        page.paste(thumbnail, (left + (side - thumbnail.width) // 2, top + side - thumbnail.height))
        for number, words in enumerate(wrap(caption, side, text.getlength)):
            draw.text((left, top + side + 4 + number * line), words, fill='black', font=text)
    return np.array(page)


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
        crossed = Image.new('RGB', (side, side), '#dddddd')
        ImageDraw.Draw(crossed).line((0, 0, side, side), fill='#aa0000', width=3)
        return crossed
    return ImageOps.contain(Image.fromarray(image), (side, side))
