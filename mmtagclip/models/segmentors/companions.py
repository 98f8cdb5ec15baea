"""Maps of a whole image, cut where its windows are."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...clip import PADDING, Companions
from ...regions.grids import bilinear, nearest
from ..clip_encoder import CLIPEncoder
from .base import EncodedImage
from .windows import Window

# Dimensions of a map (..., H, W) that a flip of mmcv turns.
FLIPPED = {'horizontal': (-1,), 'vertical': (-2,), 'diagonal': (-2, -1), None: ()}


def companions_of(
    encoder: CLIPEncoder, image: EncodedImage, windows: Sequence[Window]
) -> Companions | None:
    """What the encoder's last block needs of windows besides their pixels; None if nothing."""
    policy = encoder.last_block
    if policy is None or not (policy.needs_regions or policy.whole_grid):
        return None
    grid = None
    if policy.whole_grid is not None:
        height, width = (
            policy.whole_grid * (side // encoder.patch_size) for side in windows[0].size
        )
        grid = (height, width)
    return cut_companions(image, windows, policy.needs_regions, grid)


def cut_companions(
    image: EncodedImage,
    windows: Sequence[Window],
    with_regions: bool,
    grid: tuple[int, int] | None,
) -> Companions:
    """What is known of windows besides their pixels.

    Regions are resized nearest to the encoded image, cut, and padded with
    :data:`mmtagclip.clip.PADDING`. Features are resized bilinear to the encoded image, brought to
    unit length pixel by pixel, cut, padded with those at the edge, and resized bilinear to the
    grid; only the pixels that this reads are computed. They have no unit length then.

    Args:
        image: The image.
        windows: All of one size.
        with_regions: Whether to cut the regions.
        grid: Of the features, ``(h, w)``; no features if None.
    """
    assert image.image is not None
    height, width = image.image.shape[1:]
    flipped = FLIPPED[image.flip]
    regions = features = None
    if with_regions:
        assert image.regions is not None
        ids = torch.from_numpy(np.ascontiguousarray(image.regions)).flip(flipped)
        rows, columns = nearest(ids.shape[0], height), nearest(ids.shape[1], width)
        regions = torch.stack([_cut_regions(ids, rows, columns, one) for one in windows])
        regions = regions.to(image.image.device)
    if grid is not None:
        assert image.whole is not None
        whole = image.whole.flip(flipped)
        features = torch.stack(
            [_cut_features(whole, (height, width), one, grid) for one in windows]
        )
    return Companions(regions, features)


def _cut_regions(ids: Tensor, rows: Tensor, columns: Tensor, window: Window) -> Tensor:
    top, left, height, width, padding = window
    ids = ids[rows[top : top + height]][:, columns[left : left + width]].long()
    return F.pad(ids, padding, value=PADDING)


def _cut_features(
    whole: Tensor, size: tuple[int, int], window: Window, grid: tuple[int, int]
) -> Tensor:
    left, _, top, _ = window.padding
    sides = zip(
        whole.shape[1:],
        size,
        (window.top, window.left),
        (window.height, window.width),
        (top, left),
        window.size,
        grid,
        strict=True,
    )
    axes = []
    for own, length, first, shown, before, padded, cells in sides:
        # The pixels of the padded window that the grid reads, as pixels of the image.
        index, weight = bilinear(padded, cells)
        pixels = (index - before).clamp(0, shown - 1) + first
        inner, inner_weight = bilinear(own, length)
        axes.append((inner[:, pixels], inner_weight[pixels], weight))
    (rows, row_weight, down), (columns, column_weight, across) = axes
    # A cell is a mean of four pixels, each of which is a mean of four places of the map.
    result: Tensor | None = None
    for i, row_share in enumerate((1 - down, down)):
        for j, column_share in enumerate((1 - across, across)):
            pixel = _mix(whole, 1, rows[:, i], row_weight[i])
            pixel = _mix(pixel, 2, columns[:, j], column_weight[j])
            part = F.normalize(pixel, dim=0) * row_share[:, None] * column_share
            result = part if result is None else result + part
    assert result is not None
    return result


def _mix(x: Tensor, dim: int, index: Tensor, weight: Tensor) -> Tensor:
    """Interpolate along a dimension, at ``index`` (2, n) with the ``weight`` (n,) of the second."""
    shape = [-1 if one == dim else 1 for one in range(x.ndim)]
    weight = weight.to(x).view(shape)
    first, second = (x.index_select(dim, one.to(x.device)) for one in index)
    return first * (1 - weight) + second * weight
