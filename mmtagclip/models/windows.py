"""How an image is shown to the encoder: in windows that overlap, or whole."""
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..registry import MODELS

# Crops (n, 3, H, W) to score maps (n, K, h, w).
ScoreCrops = Callable[[Tensor], Tensor]


@MODELS.register_module()
class SlidingWindows(nn.Module):
    """Square windows that overlap; their score maps are resized and averaged.

    Args:
        size: Side of a window, in pixels; a multiple of the patch size.
        stride: Distance of neighbouring windows, in pixels; the last of a row or
            column lies at the image's edge.
        max_windows: Windows that are encoded together at most; bounds the
            memory.

    Raises:
        ValueError: A number that is not positive, or a stride that leaves gaps.
    """

    def __init__(self, size: int = 224, stride: int = 112, max_windows: int = 8) -> None:
        super().__init__()
        if not 0 < stride <= size or max_windows < 1:
            raise ValueError('SlidingWindows needs 0 < stride <= size and max_windows >= 1, not '
                             f'stride={stride}, size={size}, max_windows={max_windows}')
        self.size = size
        self.stride = stride
        self.max_windows = max_windows

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
        if min(height, width) < self.size:
            raise ValueError(f'the window of {self.size}x{self.size} pixels is larger than the '
                             f'image of {height}x{width}: resize images so that their short side '
                             f'is at least {self.size}, or take smaller windows')
        places = [(y, x) for y in self.starts(height) for x in self.starts(width)]
        counts = image.new_zeros(height, width)
        total = image.new_zeros(1, height, width)
        for start in range(0, len(places), self.max_windows):
            some = places[start:start + self.max_windows]
            maps = resize(score(torch.stack([image[:, y:y + self.size, x:x + self.size]
                                             for y, x in some])), (self.size, self.size))
            if start == 0:
                total = maps.new_zeros(maps.shape[1], height, width)
            for one, (y, x) in zip(maps, some, strict=True):
                total[:, y:y + self.size, x:x + self.size] += one
                counts[y:y + self.size, x:x + self.size] += 1
        return total / counts

    def starts(self, length: int) -> list[int]:
        """First pixel of each window along a side of the image."""
        return [*range(0, length - self.size, self.stride), length - self.size]


@MODELS.register_module()
class WholeImage(nn.Module):
    """The image in one piece.

    Args:
        patch_size: Of the encoder, in pixels.
        cut: What happens to an image whose sides the patch size does not
            divide: if True, the rest is cut off, and the score maps are
            stretched over it (NACLIP on VOC); if False, it is refused.
    """

    def __init__(self, patch_size: int = 16, cut: bool = False) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.cut = cut

    def forward(self, image: Tensor, score: ScoreCrops) -> Tensor:
        """Score maps ``(K, H, W)`` of one image; see :class:`SlidingWindows`."""
        height, width = image.shape[1:]
        if self.cut:
            patch = self.patch_size
            image = image[:, :height // patch * patch, :width // patch * patch]
        return resize(score(image[None]), (height, width))[0]


def resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize maps ``(n, K, h, w)``, bilinear."""
    return F.interpolate(maps, size=size, mode='bilinear', align_corners=False)
