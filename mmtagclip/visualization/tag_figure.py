"""A figure of an image's tags: the image, score bars, and a heat map for each tag."""

from collections.abc import Sequence

import cv2
import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .mask_figure import shorten

# More bars would not be readable beside the image.
MOST_TAGS = 20


def draw_tags(
    image: np.ndarray,
    tags: Sequence[str],
    scores: Sequence[float],
    score_maps: np.ndarray | None = None,
    columns: int = 4,
) -> np.ndarray:
    """Draw an image with its tags, at most the 20 with the highest scores.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        tags: The tags' names.
        scores: Their scores in [0, 1].
        score_maps: ``(len(tags), h, w)`` on the patch grid; each is drawn over the
            image, scaled from 0 to its own maximum. None for no heat maps.
        columns: Heat maps per row.

    Returns:
        ``(H', W', 3)`` uint8 RGB.

    Raises:
        ValueError: Tags, scores and maps differ in number.
    """
    if len(tags) != len(scores) or (score_maps is not None and len(score_maps) != len(tags)):
        count = 'no' if score_maps is None else str(len(score_maps))
        raise ValueError(f'{len(tags)} tags, but {len(scores)} scores and {count} score maps')
    order = np.argsort(scores)[::-1][:MOST_TAGS]
    maps = [] if score_maps is None else [score_maps[i] for i in order]
    names = [shorten(tags[i], 30) for i in order]
    rows = -(-len(maps) // columns)
    figure = Figure(figsize=(10, 4 + 2.6 * rows), dpi=100, layout='constrained')
    canvas = FigureCanvasAgg(figure)
    above, *below = figure.subfigures(
        1 + bool(rows), 1, squeeze=False, height_ratios=[4, 2.6 * rows][: 1 + bool(rows)]
    )[:, 0]

    shown, bars = above.subplots(1, 2)
    shown.imshow(image)
    shown.set_axis_off()

    values = [scores[i] for i in order]
    drawn = bars.barh(range(len(order)), values, color='#4269d0')
    # A name with a $ is not a formula.
    bars.set_yticks(range(len(order)), names, parse_math=False)
    bars.bar_label(
        drawn,
        [f'{value:.2f}' if value >= 0.005 else f'{value:.1g}' for value in values],
        padding=4,
        fontsize=9,
    )
    bars.set_xlim(0, max([*values, 1e-6]) * 1.15)
    bars.set_ylim(max(len(order), 5) - 0.5, -0.5)  # few bars stay thin
    bars.set_xlabel('score')
    bars.spines[['top', 'right']].set_visible(False)
    title = 'tags' if len(order) == len(tags) else f'{len(order)} of {len(tags)} tags'
    bars.set_title(title if tags else 'no tags', loc='left')

    for position, (name, one) in enumerate(zip(names, maps, strict=False)):
        axes = below[0].add_subplot(rows, columns, position + 1)
        axes.imshow(overlay(image, one))
        axes.set_title(name, fontsize=10, parse_math=False)
        axes.set_axis_off()
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def overlay(image: np.ndarray, score_map: np.ndarray) -> np.ndarray:
    """Lay a score map over an image as a heat map.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        score_map: ``(h, w)``, at least 0.

    Returns:
        ``(H, W, 3)`` uint8 RGB.
    """
    height, width = image.shape[:2]
    resized = cv2.resize(
        np.asarray(score_map, dtype=np.float32), (width, height), interpolation=cv2.INTER_CUBIC
    ).clip(0)
    heat = resized / max(float(resized.max()), 1e-12)
    colours = matplotlib.colormaps['turbo'](heat)[..., :3] * 255
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
    weight = 0.25 + 0.6 * heat[..., None]
    return (grey * (1 - weight) + colours * weight).round().astype(np.uint8)
