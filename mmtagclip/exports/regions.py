"""Regions of masks: their boxes, run lengths and outlines."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..labels import IGNORED, label_counts


@dataclass(frozen=True)
class Region:
    """Pixels of one class.

    Attributes:
        label: Their label.
        box: ``(left, top, width, height)`` in pixels.
        pixels: ``(height, width)`` bool, which of the box's pixels they are.
    """

    label: int
    box: tuple[int, int, int, int]
    pixels: np.ndarray

    @property
    def area(self) -> int:
        """Number of pixels."""
        return int(self.pixels.sum())

    def full(self, size: tuple[int, int]) -> np.ndarray:
        """The pixels in the whole image, ``(H, W)`` bool."""
        left, top, width, height = self.box
        mask = np.zeros(size, dtype=bool)
        mask[top : top + height, left : left + width] = self.pixels
        return mask

    def outline(self, tolerance: float = 0.0) -> list[tuple[int, int]]:
        """Corners ``(x, y)`` of the outer border, in pixels; ``(0, 0)`` is the image's corner.

        The border runs along the edges of the pixels, so it encloses exactly these pixels and the
        holes among them. For connected regions only.

        Args:
            tolerance: How far the outline may be from the border, in pixels.
        """
        import cv2

        # Twice as large, each pixel has a corner of its own at each of its corners.
        twice = np.kron(self.pixels, np.ones((2, 2), dtype=np.uint8)).astype(np.uint8)
        (contour,), _ = cv2.findContours(twice, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        corners = (contour.reshape(-1, 2) + 1) // 2
        corners = corners[(corners != np.roll(corners, 1, axis=0)).any(axis=1)]
        if tolerance:
            simple = cv2.approxPolyDP(corners.astype(np.int32)[:, None], tolerance, True)
            if len(simple) > 2:
                corners = simple[:, 0]
        left, top = self.box[:2]
        return [(int(x) + left, int(y) + top) for x, y in corners]


def class_regions(mask: np.ndarray, background: int | None) -> Iterator[Region]:
    """All pixels of each label that occurs, but the background; the largest first.

    Args:
        mask: ``(H, W)`` uint8 labels.
        background: Label that is left out.
    """
    counts = label_counts(mask)
    for label in sorted(counts, key=lambda label: -counts[label]):
        if label not in (background, IGNORED):
            yield crop(mask == label, label)


def connected_regions(
    mask: np.ndarray, background: int | None, min_area: int = 1
) -> Iterator[Region]:
    """Each region of pixels of one label that touch, at a side or a corner.

    Args:
        mask: ``(H, W)`` uint8 labels.
        background: Label that is left out.
        min_area: Smaller regions are left out, in pixels.
    """
    import cv2

    for whole in class_regions(mask, background):
        count, numbers, stats, _ = cv2.connectedComponentsWithStats(
            whole.pixels.astype(np.uint8), connectivity=8
        )
        for number in range(1, count):
            left, top, width, height, area = map(int, stats[number])
            if area >= min_area:
                pixels = numbers[top : top + height, left : left + width] == number
                box = (left + whole.box[0], top + whole.box[1], width, height)
                yield Region(whole.label, box, pixels)


def run_lengths(region: Region, size: tuple[int, int]) -> dict[str, Any]:
    """The pixels as COCO's compressed run lengths, in JSON values."""
    from pycocotools import mask as coco_mask

    runs = coco_mask.encode(np.asfortranarray(region.full(size), dtype=np.uint8))
    return {'size': list(runs['size']), 'counts': runs['counts'].decode()}


def crop(inside: np.ndarray, label: int) -> Region:
    """The region of some pixels.

    Args:
        inside: ``(H, W)`` bool, at least one pixel.
        label: Their label.
    """
    rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    top, bottom, left, right = map(int, (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1))
    return Region(label, (left, top, right - left, bottom - top), inside[top:bottom, left:right])
