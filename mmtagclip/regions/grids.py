"""How torch resizes the sides of maps."""

import torch
import torch.nn.functional as F
from torch import Tensor


def nearest(length: int, size: int) -> Tensor:
    """Index ``(size,)`` int64 that resizes a side of this length, as torch's ``nearest`` does."""
    steps = torch.arange(length, dtype=torch.float32)[None, None]
    return F.interpolate(steps, size=size, mode='nearest')[0, 0].long()


def nearest_map(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize maps ``(..., H, W)`` of any dtype to ``(..., *size)``, nearest."""
    rows, columns = (nearest(*sides).to(x.device) for sides in zip(x.shape[-2:], size, strict=True))
    return x[..., rows, :][..., columns]


def bilinear(length: int, size: int) -> tuple[Tensor, Tensor]:
    """How torch's ``bilinear`` resizes a side, without ``align_corners``.

    Returns:
        The two places ``(2, size)`` int64 that each result reads, and the weight ``(size,)``
        float32 of the second.
    """
    at = ((torch.arange(size, dtype=torch.float32) + 0.5) * (length / size) - 0.5).clamp(min=0)
    first = at.floor().long().clamp(max=length - 1)
    return torch.stack([first, (first + 1).clamp(max=length - 1)]), at - first
