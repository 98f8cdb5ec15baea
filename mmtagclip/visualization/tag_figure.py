"""A drawing of an image's tags: the image, and a heat map or a bar for each tag."""

import math
from collections.abc import Sequence

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw

from .canvas import ACCENT, FAINT, INK, PAPER, TRACK, fill_bar, fit_text, font, resized

# More maps would not be readable.
MOST_TAGS = 20
WIDTH, GAP = 1200, 14
# Width over height that the page comes near to.
PAGE = 1.4
# Width over height of an image's place; an image beyond them has a margin.
FLATTEST, STEEPEST = 3.0, 0.4
# Height of a caption, in sizes of its font: a bar, and a line of text.
BAR, CAPTION = 0.34, 2.3


def draw_tags(
    image: np.ndarray,
    tags: Sequence[str],
    scores: Sequence[float],
    score_maps: np.ndarray | None = None,
) -> np.ndarray:
    """Draw an image with its tags, at most the 20 with the highest scores.

    Bars and heat maps have one scale, from 0 to 1, in all drawings. Where there is
    no tag, the drawing says so.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        tags: The tags' names.
        scores: Their scores in [0, 1].
        score_maps: ``(len(tags), h, w)`` in [0, 1], on the patch grid; each is drawn
            over the image. None for no heat maps.

    Returns:
        ``(H', W', 3)`` uint8 RGB; with heat maps, W' is 1200.

    Raises:
        ValueError: Tags, scores and maps differ in number.
    """
    if len(tags) != len(scores) or (score_maps is not None and len(score_maps) != len(tags)):
        count = 'no' if score_maps is None else str(len(score_maps))
        raise ValueError(f'{len(tags)} tags, but {len(scores)} scores and {count} score maps')
    order = np.argsort(-np.asarray(scores, dtype=float), kind='stable')[:MOST_TAGS].tolist()
    title = f'{len(tags)} tag{"s" * (len(tags) != 1)}' if tags else 'no tags'
    if len(order) < len(tags):
        title = f'{len(order)} of {title}'
    ranked = [(tags[i], float(scores[i])) for i in order]
    if score_maps is None or not order:
        return _with_bars(image, title, ranked)
    return _with_maps(image, title, ranked, [score_maps[i] for i in order])


def overlay(image: np.ndarray, score_map: np.ndarray) -> np.ndarray:
    """Lay a score map over an image as a heat map: grey at 0, bright at 1.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        score_map: ``(h, w)`` in [0, 1].

    Returns:
        ``(H, W, 3)`` uint8 RGB.
    """
    height, width = image.shape[:2]
    heat = cv2.resize(
        np.asarray(score_map, dtype=np.float32), (width, height), interpolation=cv2.INTER_CUBIC
    ).clip(0, 1)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
    colours, weight = _heat(heat)
    return (_dimmed(grey) * (1 - weight) + colours * weight).round().astype(np.uint8)


def _heat(heat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Colours and opacity ``(..., 3)`` and ``(..., 1)`` of scores in [0, 1]."""
    colours = matplotlib.colormaps['inferno'](0.35 + 0.65 * heat)[..., :3].astype(np.float32)
    return colours * 255, (0.88 * (1 - np.exp(-5 * heat)))[..., None]


def _dimmed(grey: np.ndarray | float) -> np.ndarray | float:
    """How bright an image is below its heat map, in [0, 255]."""
    return 24 + 0.6 * grey


def _with_maps(
    image: np.ndarray, title: str, ranked: list[tuple[str, float]], maps: list[np.ndarray]
) -> np.ndarray:
    """The image and a heat map for each tag, in rows that are all full."""
    shape = min(max(image.shape[1] / image.shape[0], STEEPEST), FLATTEST)
    rows = _rows(len(maps) + 1, shape)
    widths = [(WIDTH - (count + 1) * GAP) / count for count in rows]
    heights = [round(width / shape) for width in widths]
    sizes = [_text_size(width) for width in widths]
    captions = [round(CAPTION * size) for size in sizes]
    small = round(0.8 * sizes[-1])
    footer = round(1.5 * small) + GAP // 2
    smaller = WIDTH / max(image.shape[:2])
    if smaller < 1:  # a large image takes long to draw over
        image = resized(image, *(max(1, round(side * smaller)) for side in image.shape[1::-1]))
    canvas = Image.new(
        'RGB', (WIDTH, sum(heights) + sum(captions) + (len(rows) + 1) * GAP + footer), PAPER
    )
    tiles = iter(
        [
            (image, title, None),
            *((overlay(image, one), *tag) for one, tag in zip(maps, ranked, strict=True)),
        ]
    )
    top = GAP
    for count, width, height, size, caption in zip(
        rows, widths, heights, sizes, captions, strict=True
    ):
        for column in range(count):
            left = GAP + column * (width + GAP)
            shown, name, score = next(tiles)
            _paste(canvas, shown, (left, top, left + width, top + height))
            _caption(canvas, (left, top + height + GAP // 2, width), size, name, score)
        top += height + caption + GAP
    _scale(canvas, (GAP, top - GAP // 2, WIDTH - 2 * GAP), small)
    return np.array(canvas)


def _with_bars(image: np.ndarray, title: str, ranked: list[tuple[str, float]]) -> np.ndarray:
    """The image, and below it a bar for each tag."""
    scale = (WIDTH - 2 * GAP) / max(image.shape[:2])
    width, height = (max(1, round(side * scale)) for side in image.shape[1::-1])
    inner = max(width, WIDTH // 2)
    columns = max(1, min(len(ranked), inner // 280))
    cell = (inner - (columns - 1) * 2 * GAP) / columns
    size = _text_size(cell)
    pitch = round(CAPTION * size) + GAP
    rows = -(-len(ranked) // columns)
    heading = round(1.6 * size)
    canvas = Image.new('RGB', (inner + 2 * GAP, height + 3 * GAP + heading + rows * pitch), PAPER)
    left = GAP + (inner - width) / 2
    _paste(canvas, image, (left, GAP, left + width, GAP + height))
    top = GAP + height + GAP // 2
    _line(canvas, (GAP, top, inner), size, title, 'score: a full bar is 1' if ranked else '')
    for number, (name, score) in enumerate(ranked):
        row, column = divmod(number, columns)
        place = (GAP + column * (cell + 2 * GAP), top + heading + row * pitch, cell)
        _caption(canvas, place, size, name, score)
    return np.array(canvas)


def _rows(count: int, shape: float) -> list[int]:
    """How many tiles of this width over height each row has, all of the page's width.

    Upper rows have fewer tiles, so that the first, the image, is among the largest.
    """
    layouts = []
    for rows in range(1, count + 1):
        each, more = divmod(count, rows)
        counts = [each] * (rows - more) + [each + 1] * more
        height = sum(WIDTH / one / shape + CAPTION * _text_size(WIDTH / one) for one in counts)
        layouts.append((abs(math.log(WIDTH / height / PAGE)), counts))
    return min(layouts)[1]


def _text_size(width: float) -> int:
    """Size of a caption's text below something of this width, in pixels."""
    return round(min(max(width / 11, 20), 42))


def _paste(canvas: Image.Image, image: np.ndarray, box: tuple[float, float, float, float]) -> None:
    """Fit an image into a box; what it leaves empty is grey."""
    left, top, right, bottom = (round(side) for side in box)
    scale = min((right - left) / image.shape[1], (bottom - top) / image.shape[0])
    width, height = (max(1, round(side * scale)) for side in image.shape[1::-1])
    if (right - left) - width > 1 or (bottom - top) - height > 1:
        canvas.paste(TRACK, (left, top, right, bottom))
    else:
        width, height = right - left, bottom - top
    place = (left + (right - left - width) // 2, top + (bottom - top - height) // 2)
    canvas.paste(Image.fromarray(resized(image, width, height)), place)


def _caption(
    canvas: Image.Image,
    place: tuple[float, float, float],
    size: int,
    name: str,
    score: float | None,
) -> None:
    """A bar, and below it name and score; only a name if there is no score."""
    left, top, width = place
    bar = round(BAR * size)
    if score is None:
        _line(canvas, (left, top + bar + size // 4, width), size, name, '', bold=True)
        return
    fill_bar(canvas, (left, top, left + width, top + bar), score, ACCENT)
    text = f'{score:.2f}' if score >= 0.005 else f'{score:.0e}' if score > 0 else '0'
    _line(canvas, (left, top + bar + size // 4, width), size, name, text)


def _line(
    canvas: Image.Image,
    place: tuple[float, float, float],
    size: int,
    text: str,
    right: str,
    bold: bool = False,
) -> None:
    """A line of text, cut to its width, and text at its right end."""
    left, top, width = place
    draw, face = ImageDraw.Draw(canvas), font(size)
    used = face.getlength(right) + size / 2 if right else 0
    shown = fit_text(text, width - used, font(size, bold))
    draw.text((left, top), shown, fill=INK, font=font(size, bold))
    draw.text((left + width, top), right, fill=FAINT, font=face, anchor='ra')


def _scale(canvas: Image.Image, place: tuple[float, float, float], size: int) -> None:
    """The colours of heat maps, from 0 to 1."""
    left, top, width = place
    draw, face = ImageDraw.Draw(canvas), font(size)
    words = 'score of each patch   0 '
    draw.text((left, top), words, fill=FAINT, font=face)
    start = left + face.getlength(words)
    end = left + width - face.getlength(' 1')
    steps = np.linspace(0, 1, max(2, round(end - start)), dtype=np.float32)
    colours, weight = _heat(steps)
    band = (_dimmed(128) * (1 - weight) + colours * weight).round().astype(np.uint8)
    canvas.paste(
        Image.fromarray(np.repeat(band[None], round(0.8 * size), axis=0)),
        (round(start), round(top + 0.2 * size)),
    )
    draw.text((left + width, top), '1', fill=FAINT, font=face, anchor='ra')
