"""Steps on maps over the patch grid that several parts share."""

import math

import cv2
import numpy as np
import torch
from torch import Tensor


def layers_from(share: float, num_blocks: int) -> tuple[int, ...]:
    """Layers from a share of the depth, rounded up, to the last but one.

    Args:
        share: In [0, 1].
        num_blocks: The depth, L.

    Returns:
        ``ceil(share * L)`` to ``L - 2``; at least one layer.
    """
    last = max(num_blocks - 2, 0)
    # Rounded first, so that a third of 3 is 1 and not a little more.
    return tuple(range(min(math.ceil(round(share * num_blocks, 6)), last), last + 1))


def min_max(x: Tensor, dim: int) -> Tensor:
    """Scale to [0, 1] along a dimension, without eps; a constant becomes 1 throughout."""
    low, high = x.amin(dim, keepdim=True), x.amax(dim, keepdim=True)
    return torch.where(high > low, (x - low) / (high - low), torch.ones_like(x))


def far_edge(end: int, size: int) -> int:
    """Clip a box's exclusive far edge to ``size - 1``, as the released code does.

    So the last row and column of a map are never inside a box: a quirk that the
    published figures depend on. On a map of one row or column, where the
    published box would be empty, the edge stays at 1.
    """
    return max(min(end, size - 1), 1)


def fill_boxes(binary: np.ndarray) -> np.ndarray:
    """Replace each region of a binary map by its bounding box.

    The boxes of the 8-connected regions cover the same patches as those of the
    external contours, of which TagCLIP and CLIP-ES speak.

    Args:
        binary: ``(h, w)`` uint8, 0 or not.

    Returns:
        ``(h, w)`` bool, the union of the boxes; far edges as :func:`far_edge`.
    """
    height, width = binary.shape
    filled = np.zeros(binary.shape, dtype=bool)
    _, _, stats, _ = cv2.connectedComponentsWithStats(binary, connectivity=8)
    for x, y, box_width, box_height, _ in stats[1:]:
        filled[y : far_edge(y + box_height, height), x : far_edge(x + box_width, width)] = True
    return filled


def scale_cam(cams: Tensor) -> Tensor:
    """Scale each CAM ``(T, N)`` to [0, 1] as published; a constant becomes 0."""
    cams = cams - cams.amin(dim=1, keepdim=True)
    return cams / (1e-7 + cams.amax(dim=1, keepdim=True))


def flip_back(maps: Tensor, direction: str | None) -> Tensor:
    """Flip maps ``(..., h, w)`` of a flipped image back; None leaves them unchanged.

    Args:
        maps: The maps.
        direction: ``'horizontal'``, ``'vertical'`` or ``'diagonal'``, as in mmcv; or None.
    """
    dims = {None: (), 'horizontal': (-1,), 'vertical': (-2,), 'diagonal': (-2, -1)}
    return maps.flip(dims[direction])


def resize_map(
    score_map: np.ndarray, size: tuple[int, int], out: np.ndarray | None = None
) -> np.ndarray:
    """Resize a map ``(h, w)`` to ``size`` ``(H, W)``, OpenCV bilinear, float32.

    Args:
        score_map: The map.
        size: Of the result.
        out: ``(H, W)`` float32, contiguous, to write the result to; a new array if None.
    """
    return cv2.resize(score_map, size[::-1], dst=out, interpolation=cv2.INTER_LINEAR)
