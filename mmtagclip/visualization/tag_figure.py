"""One picture of an image's tags: the photograph, score bars, a heat map for each tag."""
from collections.abc import Sequence

import cv2
import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def draw_tags(image: np.ndarray, tags: Sequence[str], scores: Sequence[float],
              score_maps: np.ndarray | None = None, columns: int = 4) -> np.ndarray:
    """Draw an image with its tags.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        tags: The tags' names.
        scores: Their scores in [0, 1].
        score_maps: ``(len(tags), h, w)`` on the patch grid; each is drawn over the
            image, scaled from 0 to its own maximum. None for no heat maps.
        columns: Heat maps a row.

    Returns:
        ``(H', W', 3)`` uint8 RGB.

    Raises:
        ValueError: Tags, scores and maps differ in number.
    """
    if len(tags) != len(scores) or (score_maps is not None and len(score_maps) != len(tags)):
        count = 'no' if score_maps is None else str(len(score_maps))
        raise ValueError(f'{len(tags)} tags, but {len(scores)} scores and {count} score maps')
    order = np.argsort(scores)[::-1]
    maps = [] if score_maps is None else [score_maps[i] for i in order]
    rows = -(-len(maps) // columns)
    figure = Figure(figsize=(10, 4 + 2.6 * rows), dpi=100, layout='constrained')
    canvas = FigureCanvasAgg(figure)
    grid = figure.add_gridspec(1 + rows, columns, height_ratios=[4] + [2.6] * rows)

    photograph = figure.add_subplot(grid[0, :columns // 2])
    photograph.imshow(image)
    photograph.set_axis_off()

    bars = figure.add_subplot(grid[0, columns // 2:])
    values = [scores[i] for i in order]
    bars.barh(range(len(order)), values, color='#4269d0')
    bars.set_yticks(range(len(order)), [tags[i] for i in order])
    for position, value in enumerate(values):
        bars.text(value + 0.01, position, f'{value:.2f}', va='center', fontsize=9)
    bars.set_xlim(0, max([*values, 0.01]) * 1.15)
    bars.set_ylim(max(len(order), 5) - 0.5, -0.5)  # few bars stay thin
    bars.set_xlabel('score')
    bars.spines[['top', 'right']].set_visible(False)
    bars.set_title('tags' if tags else 'no tags', loc='left')

    for position, (index, one) in enumerate(zip(order, maps, strict=False)):
        axes = figure.add_subplot(grid[1 + position // columns, position % columns])
        axes.imshow(overlay(image, one))
        axes.set_title(tags[index], fontsize=10)
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
    resized = cv2.resize(np.asarray(score_map, dtype=np.float32), (width, height),
                         interpolation=cv2.INTER_CUBIC).clip(0)
    heat = resized / max(float(resized.max()), 1e-12)
    colours = matplotlib.colormaps['turbo'](heat)[..., :3] * 255
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
    weight = 0.25 + 0.6 * heat[..., None]
    return (grey * (1 - weight) + colours * weight).round().astype(np.uint8)
