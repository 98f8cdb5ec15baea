"""Drawings of the inferencers' results."""

from typing import Any

import numpy as np

from .mask_figure import draw_instances, draw_masks
from .tag_figure import draw_tags


def draw_result(image: np.ndarray, result: Any, with_legend: bool = True) -> np.ndarray:
    """Draw a result over its image.

    Args:
        image: ``(H, W, 3)`` uint8 RGB, of the result's size.
        result: A :class:`mmtagclip.apis.TagResult`, drawn by :func:`draw_tags`, with
            heat maps if it has score maps; or a :class:`mmtagclip.apis.SegResult`,
            drawn by :func:`draw_masks`, or by :func:`draw_instances` if it has instances.
        with_legend: Whether masks have a legend.

    Returns:
        ``(H', W', 3)`` uint8 RGB.

    Raises:
        ValueError: The image could not be read when the result was made.
    """
    if result.error is not None:
        raise ValueError(f'{result.image} could not be read, so there is nothing to draw')
    if getattr(result, 'instances', None) is not None:
        found = [(one.tag, one.score, one.mask) for one in result.instances]
        return draw_instances(image, found, with_legend)
    if hasattr(result, 'mask'):
        return draw_masks(
            image,
            result.mask,
            result.classes,
            result.palette,
            result.background,
            with_legend=with_legend,
        )
    maps = result.score_maps
    return draw_tags(
        image,
        [result.classes[label] for label in result.labels],
        result.scores[result.labels].tolist(),
        None if maps is None else maps[result.labels],
    )
