"""How an image is passed to the encoder: in overlapping windows, or whole; in several views."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms.functional import gaussian_blur, rgb_to_grayscale

from ...clip import Companions
from ...registry import MODELS


class Window(NamedTuple):
    """Where a crop comes from, in pixels of the image.

    Attributes:
        top: First row.
        left: First column.
        height: Rows of the image that it shows.
        width: Columns.
        padding: Zeros around them: left, right, top, bottom.
    """

    top: int
    left: int
    height: int
    width: int
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)

    @property
    def size(self) -> tuple[int, int]:
        """``(H, W)`` of the crop, with its padding."""
        left, right, top, bottom = self.padding
        return top + self.height + bottom, left + self.width + right

    def cut(self, image: Tensor) -> Tensor:
        """Cut the crop ``(3, H, W)`` out of the image."""
        rows, columns = (
            slice(first, first + count)
            for first, count in ((self.top, self.height), (self.left, self.width))
        )
        return F.pad(image[:, rows, columns], self.padding)


# Crops (n, 3, H, W), all of one size, with their places, to score maps (n, K, h, w).
ScoreCrops = Callable[[Tensor, Sequence[Window]], Tensor]
# The same of one view of crops, with what is known of these besides.
ScoreView = Callable[[Tensor, Companions | None], Tensor]


@MODELS.register_module()
class SlidingWindows(nn.Module):
    """Square windows that overlap; their score maps are resized and averaged.

    Args:
        size: Side of a window, in pixels; a multiple of the patch size.
        stride: Distance between neighbouring windows, in pixels; the last window
            of a row or column lies at the image's edge.
        max_windows: Most windows that are encoded together; bounds the memory.
        pad_to: If set, windows are padded with zeros, half of them at the left and at the top, to
            the next multiple of this and of the patch size, and an image that is smaller than a
            window is one window of its own size. Published with CorrCLIP and Trident: 56.
        patch_size: Patch size of the encoder, in pixels. Default: that of the model, which sets
            it.

    Raises:
        ValueError: A number is not positive, or the stride leaves gaps.
    """

    def __init__(
        self,
        size: int = 224,
        stride: int = 112,
        max_windows: int = 8,
        pad_to: int | None = None,
        patch_size: int | None = None,
    ) -> None:
        super().__init__()
        if not 0 < stride <= size or max_windows < 1:
            raise ValueError(
                'SlidingWindows needs 0 < stride <= size and max_windows >= 1, not '
                f'stride={stride}, size={size}, max_windows={max_windows}'
            )
        if pad_to is not None and pad_to < 1:
            raise ValueError(f'SlidingWindows needs pad_to >= 1, not {pad_to}')
        self.size = size
        self.stride = stride
        self.max_windows = max_windows
        self.pad_to = pad_to
        self.patch_size = patch_size

    def forward(self, image: Tensor, score: ScoreCrops) -> Tensor:
        """Score maps of one image.

        Args:
            image: ``(3, H, W)``, normalised.
            score: Scores the windows ``(n, 3, size, size)``.

        Returns:
            ``(K, H, W)``.

        Raises:
            ValueError: The image is smaller than a window.
        """
        height, width = image.shape[1:]
        windows = self.windows(height, width)
        counts = image.new_zeros(height, width)
        total = image.new_zeros(1, height, width)
        for start in range(0, len(windows), self.max_windows):
            some = windows[start : start + self.max_windows]
            maps = resize(score(torch.stack([one.cut(image) for one in some]), some), some[0].size)
            if start == 0:
                total = maps.new_zeros(maps.shape[1], height, width)
            for one, window in zip(maps, some, strict=True):
                y, x, rows, columns, (left, _, top, _) = window
                total[:, y : y + rows, x : x + columns] += one[
                    :, top : top + rows, left : left + columns
                ]
                counts[y : y + rows, x : x + columns] += 1
        return total / counts

    def windows(self, height: int, width: int) -> list[Window]:
        """All windows of an image, all of one size.

        Raises:
            ValueError: The image is smaller than a window.
        """
        if min(height, width) < self.size and self.pad_to is None:
            raise ValueError(
                f'the window of {self.size}x{self.size} pixels is larger than the '
                f'image of {height}x{width}: resize images so that their short side '
                f'is at least {self.size}, or use smaller windows'
            )
        rows, columns = min(self.size, height), min(self.size, width)
        padding = (*self._padding(columns), *self._padding(rows))
        return [
            Window(y, x, rows, columns, padding)
            for y in self.starts(height)
            for x in self.starts(width)
        ]

    def starts(self, length: int) -> list[int]:
        """First pixel of each window along a side of the image."""
        last = max(length - self.size, 0)
        return [*range(0, last, self.stride), last]

    def _padding(self, length: int) -> tuple[int, int]:
        if self.pad_to is None:
            return 0, 0
        missing = -length % math.lcm(self.pad_to, self.patch_size or 1)
        return missing // 2, missing - missing // 2


@MODELS.register_module()
class WholeImage(nn.Module):
    """The image in one piece.

    Args:
        patch_size: Patch size of the encoder, in pixels. Default: that of the model, which sets
            it.
        cut: What happens to an image whose sides are no multiples of the patch
            size: if True, the remainder is cut off, and the score maps are
            stretched over it (NACLIP on VOC); if False, the image is refused.
    """

    def __init__(self, patch_size: int | None = None, cut: bool = False) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.cut = cut

    def forward(self, image: Tensor, score: ScoreCrops) -> Tensor:
        """Score maps ``(K, H, W)`` of one image; see :class:`SlidingWindows`."""
        height, width = image.shape[1:]
        if self.cut:
            patch = self.patch_size
            assert patch is not None
            image = image[:, : height // patch * patch, : width // patch * patch]
        window = Window(0, 0, image.shape[1], image.shape[2])
        return resize(score(image[None], [window]), (height, width))[0]


@MODELS.register_module()
class ImageViews(nn.Module):
    """Each window in five views (ITACLIP, CVPRW 2025): itself, grey, blurred, and two flips.

    Score maps are ``weight`` times the mean of the first three, plus ``1 -
    weight`` times the mean of the two flips, flipped back. Unit features are
    averaged and not normalised again, which equals the mean of their cosines.
    Views are made of each window separately, from the normalised values; the
    blur reflects at the window's edges.

    Args:
        weight: Share of the upright views, in [0, 1]; published: 0.75 (VOC21
            and Cityscapes 0.7).
        blur_size: Side of the Gaussian blur's kernel, in pixels, odd;
            published: 11.
        blur_sigma: Its standard deviation, in pixels; published: 5.

    Raises:
        ValueError: The weight is outside [0, 1], or the kernel is invalid.
    """

    def __init__(self, weight: float = 0.75, blur_size: int = 11, blur_sigma: float = 5.0) -> None:
        super().__init__()
        if not 0 <= weight <= 1:
            raise ValueError(f'ImageViews needs weight in [0, 1], not {weight}')
        if blur_size < 1 or blur_size % 2 == 0 or blur_sigma <= 0:
            raise ValueError(
                'ImageViews needs an odd blur_size and blur_sigma > 0, not '
                f'blur_size={blur_size}, blur_sigma={blur_sigma}'
            )
        self.weight = weight
        self.blur_size = blur_size
        self.blur_sigma = blur_sigma

    def forward(
        self, crops: Tensor, score: ScoreView, companions: Companions | None = None
    ) -> Tensor:
        """Score maps of windows, one view after the other.

        Args:
            crops: ``(n, 3, H, W)``, normalised, RGB.
            score: Scores them.
            companions: What else is known of them; flipped with them.

        Returns:
            ``(n, K, h, w)``.

        Raises:
            ValueError: A side is too short for the blur, which reflects half of its
                kernel at the edges.
        """
        if min(crops.shape[2:]) <= self.blur_size // 2:
            raise ValueError(
                f'a blur of {self.blur_size} pixels is too wide for windows of '
                f'{crops.shape[2]}x{crops.shape[3]}: set blur_size'
            )

        def flipped_score(dim: int) -> Tensor:
            theirs = None
            if companions is not None:
                theirs = companions.change(lambda one: one.flip(dim))
            return score(crops.flip(dim), theirs).flip(dim)

        upright = score(crops, companions)
        upright = upright + score(rgb_to_grayscale(crops, num_output_channels=3), companions)
        blurred = gaussian_blur(crops, [self.blur_size] * 2, [self.blur_sigma] * 2)
        upright = upright + score(blurred, companions)
        flipped = flipped_score(-2) + flipped_score(-1)
        return self.weight / 3 * upright + (1 - self.weight) / 2 * flipped


def resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize maps ``(n, K, h, w)``, bilinear."""
    return F.interpolate(maps, size=size, mode='bilinear', align_corners=False)
