"""How the scores of classes are distributed, as a figure."""

import io
from collections.abc import Sequence

import numpy as np

ROWS = 100


def draw_scores(
    classes: Sequence[str],
    scores: np.ndarray,
    positives: np.ndarray | None = None,
    thresholds: Sequence[float | None] | None = None,
    title: str = '',
) -> bytes:
    """Draw one row per class: a box of the scores of all images, and its outliers.

    The box holds half of the images, its whiskers 90 %. Of more than 100 classes, those with the
    highest scores are drawn.

    Args:
        classes: Names of the F classes.
        scores: ``(n, F)``.
        positives: ``(n, F)`` bool, images that are known to show the class, drawn as points;
            None if that is not known.
        thresholds: Of each class, drawn as a line; None for none.
        title: Above the axis.

    Returns:
        A PNG file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # here: it takes its time
    from matplotlib.figure import Figure

    order = np.argsort(-scores.max(axis=0), kind='stable')[:ROWS]
    figure = Figure(figsize=(8, 1.2 + 0.24 * len(order)), layout='constrained')
    axes = figure.add_subplot()
    for row, label in enumerate(order, start=1):
        own = scores[:, label]
        low, first, median, third, high = np.quantile(own, (0.05, 0.25, 0.5, 0.75, 0.95))
        axes.plot([low, high], [row, row], color='0.6', linewidth=1)
        axes.plot([first, third], [row, row], color='0.6', linewidth=6, solid_capstyle='butt')
        axes.plot([median, median], [row - 0.25, row + 0.25], color='0.2')
        outliers = own[(own < low) | (own > high)]
        axes.plot(outliers, np.full(len(outliers), row), '.', color='0.6', markersize=3)
        if positives is not None:
            shown = scores[positives[:, label], label]
            axes.plot(shown, np.full(len(shown), row), 'o', color='C0', markersize=3, alpha=0.6)
        limit = None if thresholds is None else thresholds[label]
        if limit is not None:
            axes.plot([limit, limit], [row - 0.4, row + 0.4], color='C3')
    axes.set_yticks(range(1, len(order) + 1), [classes[label] for label in order], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel('score')
    axes.set_title(title, fontsize=9)
    FigureCanvasAgg(figure)
    content = io.BytesIO()
    figure.savefig(content, format='png', dpi=100)
    return content.getvalue()
