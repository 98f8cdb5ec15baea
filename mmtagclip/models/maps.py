"""Steps on maps over the patch grid that several parts share."""

import math

import cv2
import numpy as np
import torch
import torch.nn.functional as F
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
    return (x - low).div_(high - low).masked_fill_(~(high > low), 1)


def far_edge(end: Tensor, size: int) -> Tensor:
    """Clip the exclusive far edges of boxes to ``size - 1``, as the released code does.

    So the last row and column of a map are never inside a box: a quirk that the
    published figures depend on. On a map of one row or column, where the
    published box would be empty, the edge stays at 1.

    Args:
        end: Far edges, integers.
        size: Length of the side.
    """
    return end.clamp(max=size - 1).clamp(min=1)


def fill_boxes(binary: Tensor) -> Tensor:
    """Replace each region of binary maps by its bounding box, on the maps' own device.

    The boxes of the 8-connected regions cover the same patches as those of the
    external contours, of which TagCLIP and CLIP-ES speak.

    Args:
        binary: ``(..., h, w)`` bool.

    Returns:
        ``(..., h, w)`` bool, the union of the boxes; far edges as :func:`far_edge`.
    """
    height, width = binary.shape[-2:]
    maps = binary.reshape(-1, height, width)
    extents = region_boxes_cpu if maps.device.type == 'cpu' else region_boxes
    index, top, left, bottom, right = extents(maps)
    bottom, right = far_edge(bottom, height).maximum(top), far_edge(right, width).maximum(left)
    # Sums over rows and columns turn a box's four corners into ones inside of it.
    cells = len(maps) * (height + 1) * (width + 1)
    corners = torch.zeros(cells, dtype=torch.int32, device=maps.device)
    one = torch.ones(1, dtype=torch.int32, device=maps.device).expand(len(index))
    for y, x, sign in ((top, left, 1), (top, right, -1), (bottom, left, -1), (bottom, right, 1)):
        corners.index_add_(0, (index * (height + 1) + y) * (width + 1) + x, one, alpha=sign)
    inside = corners.view(len(maps), height + 1, width + 1)
    inside = inside.cumsum(1, dtype=torch.int32).cumsum(2, dtype=torch.int32)
    return (inside[:, :height, :width] > 0).view(binary.shape)


Boxes = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def region_boxes_cpu(maps: Tensor) -> Boxes:
    """Bounding boxes of the 8-connected regions of maps on the CPU, all maps in one call.

    Args:
        maps: ``(M, h, w)`` bool.

    Returns:
        Index of the map, top, left, bottom and right of each region, int64; far edges
        exclusive.
    """
    count, height, width = maps.shape
    # One below the other, with an empty row between.
    tall = np.zeros((count, height + 1, width), np.uint8)
    tall[:, :height] = maps.numpy()
    _, _, stats, _ = cv2.connectedComponentsWithStats(tall.reshape(-1, width), connectivity=8)
    left, y, box_width, box_height = torch.from_numpy(stats[1:, :4].astype(np.int64)).unbind(1)
    index = y // (height + 1)
    top = y - index * (height + 1)
    return index, top, left, top + box_height, left + box_width


def region_boxes(maps: Tensor) -> Boxes:
    """The same as :func:`region_boxes_cpu` on any device, with one wait of the host as a rule.

    Every pixel points to the first pixel that it knows of its region. Pointers are passed to
    neighbours and followed, so that distances double with each step.
    Pixels outside of all regions count as regions with an empty box: the result has one row for
    each pixel.
    """
    count, height, width = maps.shape
    size = height * width
    flat = maps.reshape(count, size)
    pixel = torch.arange(size, device=maps.device).expand(count, size)
    pointer = pixel
    steps = 4 + 2 * max(height, width).bit_length()
    while True:
        before = pointer
        for _ in range(steps):
            # Exact in float32 up to 2^24 pixels.
            known = torch.where(flat, pointer, size).to(torch.float32).view(count, 1, height, width)
            near = -F.max_pool2d(-known, 3, stride=1, padding=1)
            near = torch.where(flat, near.view(count, size).long(), pixel)
            pointer = pointer.scatter_reduce(1, pointer, near, 'amin').minimum(near)
            pointer = pointer.gather(1, pointer)
        if torch.equal(pointer, before):
            break
    y, x = pixel // width, pixel % width
    found = flat & (pointer == pixel)
    index = torch.arange(count, device=maps.device)[:, None].expand(count, size)
    boxes = [index]
    for at, side in ((y, height), (x, width)):
        first = torch.full_like(pixel, side).scatter_reduce(1, pointer, at, 'amin')
        boxes.append(torch.where(found, first, side))
    for at in (y, x):
        last = torch.zeros_like(pixel).scatter_reduce(1, pointer, at + 1, 'amax')
        boxes.append(torch.where(found, last, 0))
    return tuple(one.flatten() for one in boxes)  # type: ignore[return-value]


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
