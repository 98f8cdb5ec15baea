"""A drawing of an image's mask: named, coloured regions over the image, and a legend below."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw

from ..labels import IGNORED, label_counts
from ..palette import BASE, appearance, class_colours, difference
from .canvas import FAINT, INK, PAPER, Colour, fill_box, fit_text, font, ink_on, resized

# Longer side of the image in a drawing, in pixels: text has the same size for all images.
LONGER_SIDE = 900
GAP, TEXT, SMALL_TEXT = 14, 32, 22
# The legend is at least this wide, and has small text from this many classes on.
LEAST_WIDTH, MANY = 480, 13
# Least difference of two colours in a drawing, for those who tell them apart the least.
FAR = 15
# How much of its colour the image loses outside of the regions.
PALE = 0.6
# Width of a region's outline, in pixels, and of the white one below it.
OUTLINE, HALO = 5, 9
# A further region of a class is named if it covers this share of the image.
NAMED_SHARE = 0.02
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class LegendEntry:
    """A class in the drawing of a mask.

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


def draw_masks(
    image: np.ndarray,
    mask: np.ndarray,
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    background: int | None = None,
    opacity: float = 0.45,
    title: str = '',
    with_legend: bool = True,
) -> np.ndarray:
    """Draw a mask over its image: regions with names, and a legend of the classes that occur.

    A name is at the point of its region that is the furthest from the region's
    border, or beside a region that is too small for it, and is left out where there
    is no room. The legend below the image has all names, from the largest class to
    the smallest, with their share of the image.

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
    width, height = (max(1, round(side * scale)) for side in image.shape[1::-1])
    shown = resized(image, width, height).astype(np.float32)
    grey = cv2.cvtColor(shown, cv2.COLOR_RGB2GRAY)[..., None]
    plain = shown + PALE * (grey - shown)
    if scale < 1:
        mask = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    regions = [_region(mask == entry.label, width, height) for entry in entries]
    drawn = plain if entries else shown.copy()
    boxes = [_around(region) for region in regions]
    for entry, region, box in zip(entries, regions, boxes, strict=True):
        coloured = shown[box] + opacity * (np.array(entry.colour, np.float32) - shown[box])
        _blend(drawn[box], coloured, region[box])
    for entry, region, box in zip(entries, regions, boxes, strict=True):
        for colour, pixels in ((PAPER, HALO), (entry.colour, OUTLINE)):
            brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (pixels, pixels))
            outline = cv2.morphologyEx(region[box], cv2.MORPH_GRADIENT, brush)
            _blend(drawn[box], np.array(colour, np.float32), outline)
    canvas = Image.fromarray(drawn.round().clip(0, 255).astype(np.uint8))
    _write_names(canvas, entries, regions)
    return _with_legend(canvas, entries, title) if with_legend else np.array(canvas)


def draw_instances(
    image: np.ndarray,
    instances: Sequence[tuple[str, float, np.ndarray]],
    with_legend: bool = True,
    title: str = '',
) -> np.ndarray:
    """Draw instances over their image, each with its name, score and another colour.

    Where they overlap, the one with the highest score is drawn. At most 255 are drawn, those with
    the highest scores.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        instances: Of each its name, its score in [0, 1], and its mask ``(H, W)`` bool.
        with_legend: Whether the legend is drawn.
        title: Title of the legend.

    Returns:
        See :func:`draw_masks`.

    Raises:
        ValueError: A mask and the image differ in size.
    """
    best = sorted(instances, key=lambda one: -one[1])[:IGNORED]
    mask = np.full(image.shape[:2], IGNORED, dtype=np.uint8)
    for label, (name, _, where) in reversed(list(enumerate(best))):
        if where.shape != mask.shape:
            raise ValueError(f'the mask of an instance of {name!r} has another size than the image')
        mask[where] = label
    names = [f'{name} {score:.2f}' for name, score, _ in best]
    palette = class_colours(len(best))
    return draw_masks(image, mask, names, palette, title=title, with_legend=with_legend)


def mask_legend(
    mask: np.ndarray,
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    background: int | None = None,
) -> list[LegendEntry]:
    """The classes in the drawing of a mask, from the largest to the smallest.

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
    """A colour that is different enough from those in use: the given one, or a basic one."""
    if not used:
        return colour
    candidates = (colour, *BASE)
    looks, others = appearance(candidates), appearance(used)
    for place, one in enumerate(candidates):
        if difference(looks[:, place : place + 1], others).min() >= FAR:
            return one
    return colour


def _region(here: np.ndarray, width: int, height: int) -> np.ndarray:
    """A region in the drawing's size, or a smaller one enlarged to it, with a smooth edge.

    Returns:
        ``(height, width)`` float32 in [0, 1].
    """
    soft = cv2.resize(here.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    # An edge of about two pixels, however much larger the drawing is.
    steep = max(1.0, width / here.shape[1] / 2)
    return ((soft - 0.5) * steep + 0.5).clip(0, 1)


def _around(region: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns that a region and its outline need."""
    left, top, wide, high = cv2.boundingRect((region > 0).astype(np.uint8))
    return (
        slice(max(0, top - HALO), top + high + HALO),
        slice(max(0, left - HALO), left + wide + HALO),
    )


def _blend(onto: np.ndarray, colour: np.ndarray, weight: np.ndarray) -> None:
    """Mix a colour, or the colours of pixels, into an image, in place."""
    onto += weight[..., None] * (colour - onto)


def _write_names(
    canvas: Image.Image, entries: Sequence[LegendEntry], regions: Sequence[np.ndarray]
) -> None:
    """Write each class's name on its largest region, and on further large ones."""
    draw = ImageDraw.Draw(canvas)
    size = TEXT if len(entries) < MANY else SMALL_TEXT
    face, height = font(size, bold=True), round(1.45 * size)
    taken: list[Box] = []
    coloured = sum(regions, np.zeros(canvas.size[::-1], np.float32))
    for entry, region in zip(entries, regions, strict=True):
        name = fit_text(entry.name, LONGER_SIDE / 2, face)
        width = face.getlength(name) + 0.8 * size
        if width > canvas.width or height > canvas.height:
            continue
        for centres in _places(region > 0.5, width, height):
            boxes = [_box(centre, width, height, canvas.size) for centre in centres]
            free = [one for one in boxes if not any(_meet(one, other) for other in taken)]
            # Beside the region rather than over another one.
            box = min(free, key=lambda box: _covered(coloured - region, box), default=None)
            if box is None:
                continue
            taken.append(box)
            left, top, right, bottom = box
            fill_box(canvas, (left - 2, top - 2, right + 2, bottom + 2), PAPER, size / 3 + 2)
            fill_box(canvas, box, entry.colour, size / 3)
            middle = ((left + right) / 2, (top + bottom) / 2)
            draw.text(middle, name, fill=ink_on(entry.colour), font=face, anchor='mm')


def _places(here: np.ndarray, width: float, height: float) -> Iterator[list[tuple[float, float]]]:
    """For each region of a class that is named, where the middle of its name may be.

    Args:
        here: ``(H, W)`` bool, where the class is.
        width: Of the name, in pixels.
        height: The same.
    """
    count, numbers, boxes, _ = cv2.connectedComponentsWithStats(here.astype(np.uint8))
    order = sorted(range(1, count), key=lambda number: -boxes[number, cv2.CC_STAT_AREA])
    for place, number in enumerate(order):
        left, top, wide, high, area = boxes[number].tolist()
        if place and area < NAMED_SHARE * here.size:
            return
        inner = np.pad(numbers[top : top + high, left : left + wide] == number, 1)
        depth = cv2.distanceTransform(inner.astype(np.uint8), cv2.DIST_L2, 5)
        y, x = np.unravel_index(int(depth.argmax()), depth.shape)
        on, middle = (left + x - 1.0, top + y - 1.0), left + wide / 2
        beside = [
            (middle, top - height / 2 - 6),
            (middle, top + high + height / 2 + 6),
            (left + wide + width / 2 + 6, on[1]),
            (left - width / 2 - 6, on[1]),
        ]
        # A name that is much larger than its region would hide it.
        yield [on, *beside] if area > 2 * width * height else [*beside, on]


def _box(centre: tuple[float, float], width: float, height: float, within: tuple[int, int]) -> Box:
    """A box around a point, moved into the image."""
    left = min(max(centre[0] - width / 2, 4), within[0] - width - 4)
    top = min(max(centre[1] - height / 2, 4), within[1] - height - 4)
    return left, top, left + width, top + height


def _covered(coloured: np.ndarray, box: Box) -> float:
    """Share of a box that is coloured, in tenths: less does not matter."""
    left, top, right, bottom = (max(0, round(side)) for side in box)
    return round(float(coloured[top:bottom, left:right].mean()), 1)


def _meet(one: Box, other: Box) -> bool:
    return (
        one[0] < other[2] + 4
        and other[0] < one[2] + 4
        and one[1] < other[3] + 4
        and other[1] < one[3] + 4
    )


def _with_legend(drawn: Image.Image, entries: Sequence[LegendEntry], title: str) -> np.ndarray:
    """A drawing with its legend below, in as many columns as fit."""
    size = SMALL_TEXT if len(entries) >= MANY else TEXT - 4
    face, bold = font(size), font(size, bold=True)
    inner = max(drawn.width, LEAST_WIDTH)
    swatch = round(0.9 * size)
    shares = [_percent(entry.share) for entry in entries]
    room = min(inner, 20 * size) - 6 * size
    names = [fit_text(entry.name, room, face) for entry in entries]
    widths = [face.getlength(f'{name} {share}') for name, share in zip(names, shares, strict=True)]
    cell = max(widths, default=0) + swatch + 1.8 * size
    columns = max(1, min(len(entries), int((inner + 1.2 * size) // cell)))
    rows, pitch = -(-len(entries) // columns), round(1.5 * size)
    heading = [title] if title else [] if entries else ['no class']
    canvas = Image.new(
        'RGB',
        (inner + 2 * GAP, drawn.height + 3 * GAP + (rows + len(heading)) * pitch),
        PAPER,
    )
    canvas.paste(drawn, (GAP + (inner - drawn.width) // 2, GAP))
    draw = ImageDraw.Draw(canvas)
    top = 2 * GAP + drawn.height
    for text in heading:
        draw.text(
            (GAP, top + pitch / 2), fit_text(text, inner, bold), fill=INK, font=bold, anchor='lm'
        )
        top += pitch
    for number, (entry, name, share) in enumerate(zip(entries, names, shares, strict=True)):
        left, middle = GAP + number % columns * cell, top + (number // columns + 0.5) * pitch
        square = (left, middle - swatch / 2, left + swatch, middle + swatch / 2)
        fill_box(canvas, square, entry.colour, swatch / 5)
        start = left + swatch + 0.4 * size
        draw.text((start, middle), name, fill=INK, font=face, anchor='lm')
        start += face.getlength(name + ' ')
        draw.text((start, middle), share, fill=FAINT, font=face, anchor='lm')
    return np.array(canvas)


def _percent(share: float) -> str:
    return '<0.1%' if share < 0.0005 else f'{100 * share:.1f}%'
