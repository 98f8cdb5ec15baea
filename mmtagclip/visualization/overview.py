"""What several models make of one image, in one drawing."""

from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from .canvas import INK, PAPER, fit_text, font, resized
from .results import draw_result

GAP = 14
# Size of a title over the width of its column, and height of its line in sizes.
TITLE, LINE = 0.045, 1.7
# A column of masks that would be narrower than this, over the tags, becomes a row.
NARROWEST = 0.3


def draw_overview(image: np.ndarray, tags: Any, masks: dict[str, Any]) -> np.ndarray:
    """Draw an image's tags, and beside them the masks of each model.

    The masks are below one another, or of a tall image beside one another. They have no
    legend: names are on their regions.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        tags: A :class:`mmtagclip.apis.TagResult` of it, best with score maps.
        masks: Title and :class:`mmtagclip.apis.SegResult` of each model; at least one.

    Returns:
        ``(H', W', 3)`` uint8 RGB.

    Raises:
        ValueError: There are no masks, or the image could not be read when a result was made.
    """
    if not masks:
        raise ValueError('an overview needs the masks of at least one model')
    left = draw_result(image, tags)
    drawn = {title: draw_result(image, one, with_legend=False) for title, one in masks.items()}
    height = left.shape[0] - 2 * GAP
    shapes = [one.shape[0] / one.shape[1] + TITLE * LINE for one in drawn.values()]
    # The width at which all masks with their titles are as high as the tags.
    width = round((height - GAP * (len(drawn) - 1)) / sum(shapes))
    in_a_row = width < NARROWEST * left.shape[1]
    widths = [round(height / one) for one in shapes] if in_a_row else [width] * len(drawn)
    right = sum(one + GAP for one in widths) if in_a_row else width + GAP
    page = Image.new('RGB', (left.shape[1] + right, left.shape[0]), PAPER)
    page.paste(Image.fromarray(left), (0, 0))
    draw = ImageDraw.Draw(page)
    across, down = left.shape[1], GAP
    for (title, one), width in zip(drawn.items(), widths, strict=True):
        face = font(round(TITLE * width), bold=True)
        draw.text((across, down), fit_text(title, width, face), fill=INK, font=face)
        top = down + round(LINE * TITLE * width)
        one = resized(one, width, round(one.shape[0] * width / one.shape[1]))
        page.paste(Image.fromarray(one), (across, top))
        if in_a_row:
            across += width + GAP
        else:
            down = top + one.shape[0] + GAP
    return np.array(page)
