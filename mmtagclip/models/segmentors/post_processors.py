"""Fit probabilities to the edges of the image: dense CRF, PAMR, PAR."""

import importlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...extras import install
from ...registry import MODELS

# Subtracted from B, G, R by the released code before it passes the image to the CRF.
PUBLISHED_BGR_MEAN = (104.008, 116.669, 122.675)


@MODELS.register_module()
class DenseCRF(nn.Module):
    """Fully connected CRF (Krähenbühl & Koltun, 2011), with CLIP-ES' parameters.

    Needs pydensecrf (the extra ``crf``) and runs on the CPU.

    Args:
        iterations: Mean-field steps.
        gaussian_sxy: Width of the smoothness kernel, in pixels.
        gaussian_weight: Its weight.
        bilateral_sxy: Width of the appearance kernel, in pixels.
        bilateral_srgb: Its width in colour, 0 to 255.
        bilateral_weight: Its weight.
        wrapped_input: Whether to do as the released code does: subtract a mean
            from the BGR image, truncate the result and wrap it into uint8. By
            default, the CRF gets the plain BGR image.

    Raises:
        ImportError: pydensecrf is not installed.
    """

    def __init__(
        self,
        iterations: int = 10,
        gaussian_sxy: float = 1,
        gaussian_weight: float = 3,
        bilateral_sxy: float = 67,
        bilateral_srgb: float = 3,
        bilateral_weight: float = 4,
        wrapped_input: bool = False,
    ) -> None:
        super().__init__()
        try:
            self._densecrf: Any = importlib.import_module('pydensecrf.densecrf')
        except ImportError:
            raise ImportError(
                f'DenseCRF needs pydensecrf: {install("crf")}; '
                'mmtagclip.PAMR needs no further package'
            ) from None
        self.iterations = iterations
        self.gaussian_sxy = gaussian_sxy
        self.gaussian_weight = gaussian_weight
        self.bilateral_sxy = bilateral_sxy
        self.bilateral_srgb = bilateral_srgb
        self.bilateral_weight = bilateral_weight
        self.wrapped_input = wrapped_input

    def forward(self, probabilities: Tensor, image: np.ndarray) -> Tensor:
        """Refine probabilities.

        Args:
            probabilities: ``(K, H, W)`` in [0, 1]; they need not sum to 1.
            image: ``(H, W, 3)`` uint8 BGR in [0, 255].

        Returns:
            ``(K, H, W)``, which sum to 1.
        """
        count, height, width = probabilities.shape
        crf = self._densecrf.DenseCRF2D(width, height, count)
        unary = -np.log(np.clip(probabilities.cpu().numpy(), 1e-5, 1.0)).reshape(count, -1)
        crf.setUnaryEnergy(np.ascontiguousarray(unary, dtype=np.float32))
        if self.wrapped_input:
            centred = image.astype(np.float32) - PUBLISHED_BGR_MEAN
            image = centred.astype(np.int64).astype(np.uint8)
        crf.addPairwiseGaussian(sxy=self.gaussian_sxy, compat=self.gaussian_weight)
        crf.addPairwiseBilateral(
            sxy=self.bilateral_sxy,
            srgb=self.bilateral_srgb,
            compat=self.bilateral_weight,
            rgbim=np.ascontiguousarray(image),
        )
        refined = np.array(crf.inference(self.iterations)).reshape(count, height, width)
        return torch.from_numpy(refined).to(probabilities.device)


class PixelAdaptive(nn.Module):
    """Base class of the parts that average planes over alike neighbours, on any device.

    Each step replaces a pixel's values by a weighted sum over its neighbours. The weights depend
    on the image alone; a derived class computes them in :meth:`weigh`.

    The image is worked on in bands of rows. The bands change nothing in the result. Weights are
    kept for all steps if they fit in half of ``max_memory``, else computed again in each step.

    Args:
        iterations: Steps.
        dilations: Distances of the 8 neighbours, in pixels.
        max_memory: Most working memory, in MB of 10^6 bytes. The image, the planes and the
            result come on top.

    Raises:
        ValueError: A number is not positive.
    """

    def __init__(
        self, iterations: int, dilations: Sequence[int], max_memory: float = 512.0
    ) -> None:
        super().__init__()
        if iterations < 1 or not dilations or min(dilations) < 1 or max_memory <= 0:
            raise ValueError(
                f'{type(self).__name__} needs iterations >= 1, dilations >= 1 and max_memory > 0, '
                f'not iterations={iterations}, dilations={tuple(dilations)}, '
                f'max_memory={max_memory}'
            )
        self.iterations = iterations
        self.dilations = tuple(dilations)
        self.max_memory = max_memory

    def forward(self, probabilities: Tensor, image: np.ndarray | Tensor) -> Tensor:
        """Refine probabilities or logits.

        Args:
            probabilities: ``(K, H, W)``, float32.
            image: ``(H', W', 3)``, any range and order of channels; resized to ``(H, W)`` if
                the sizes differ (bilinear, corners aligned).

        Returns:
            ``(K, H, W)``.

        Raises:
            ValueError: ``max_memory`` is not enough for one row of the image.
        """
        pixels = (
            torch.as_tensor(np.ascontiguousarray(image) if isinstance(image, np.ndarray) else image)
            .to(probabilities.device)
            .float()
            .permute(2, 0, 1)
        )
        planes, height, width = probabilities.shape
        if pixels.shape[1:] != (height, width):
            pixels = F.interpolate(
                pixels[None], (height, width), mode='bilinear', align_corners=True
            )[0]
        rows = self._rows(planes, height, width)
        bands = [(top, min(top + rows, height)) for top in range(0, height, rows)]
        kept = None
        if self._weight_bytes(height, width) <= self._half:
            kept = [self.weights(pixels, *band) for band in bands]
        values = probabilities.clone()
        for _ in range(self.iterations):
            self._step(values, bands, kept, pixels)
        return values

    @property
    def _half(self) -> float:
        """Half of the working memory, in bytes."""
        return self.max_memory * 1e6 / 2

    def _weight_bytes(self, height: int, width: int) -> int:
        return 4 * 8 * len(self.dilations) * height * width

    def _rows(self, planes: int, height: int, width: int) -> int:
        """Rows of a band, as many as half of the working memory has space for."""
        reach = max(self.dilations)
        # Beside the weights of a pixel: its planes and colours with their surroundings, the sums
        # of planes, and 4 values per colour while weights are computed.
        row = self._weight_bytes(1, width) + 4 * (
            width * (planes + 15) + (width + 2 * reach) * planes
        )
        fixed = 4 * 2 * reach * ((width + 2 * reach) * (planes + 3) + width * planes)
        rows = int((self._half - fixed) // row)
        if rows < 1:
            least = math.ceil(2 * (fixed + row) / 1e6)
            raise ValueError(
                f'{type(self).__name__} needs max_memory={least} (MB) or more for {planes} planes '
                f'of {height}x{width} pixels, not {self.max_memory}'
            )
        return min(rows, height)

    def _step(
        self,
        values: Tensor,
        bands: list[tuple[int, int]],
        kept: list[Tensor] | None,
        pixels: Tensor,
    ) -> None:
        """Replace ``values`` ``(K, H, W)`` by the weighted sums over their neighbours."""
        reach = max(self.dilations)
        above = values[:, :1].expand(-1, reach, -1)  # of the band, as they were before the step
        for number, (top, bottom) in enumerate(bands):
            weights = self.weights(pixels, top, bottom) if kept is None else kept[number]
            around = self._around(values, top, bottom, above)
            above = around[:, bottom - top : bottom - top + reach, reach:-reach].clone()
            total = values[:, top:bottom].zero_()
            for weight, neighbour in zip(weights, self._neighbours(around), strict=True):
                total.addcmul_(weight, neighbour)

    def _around(self, x: Tensor, top: int, bottom: int, above: Tensor | None = None) -> Tensor:
        """Rows of ``x`` ``(K, H, W)`` with what the neighbours reach, edges replicated.

        Args:
            x: The planes.
            top: First row.
            bottom: Last row, exclusive.
            above: ``(K, reach, W)`` the rows above; those of ``x`` if None.
        """
        reach, (count, height, width) = max(self.dilations), x.shape
        out = x.new_empty(count, bottom - top + 2 * reach, width + 2 * reach)
        inner = out[:, :, reach:-reach]
        if above is None:
            first = max(top - reach, 0)
            inner[:, reach - (top - first) : reach] = x[:, first:top]
            inner[:, : reach - (top - first)] = x[:, :1]
        else:
            inner[:, :reach] = above
        last = min(bottom + reach, height)
        inner[:, reach : reach + last - top] = x[:, top:last]
        inner[:, reach + last - top :] = x[:, height - 1 :]
        out[:, :, :reach] = inner[:, :, :1]
        out[:, :, -reach:] = inner[:, :, -1:]
        return out

    def _neighbours(self, around: Tensor) -> Iterator[Tensor]:
        """The 8 neighbours at each dilation, of what :meth:`_around` returns."""
        reach = max(self.dilations)
        height, width = (side - 2 * reach for side in around.shape[1:])
        for dilation in self.dilations:
            for down in (-dilation, 0, dilation):
                for right in (-dilation, 0, dilation):
                    if down or right:
                        y, x = reach + down, reach + right
                        yield around[:, y : y + height, x : x + width]

    def weights(self, pixels: Tensor, top: int, bottom: int) -> Tensor:
        """Weight of each neighbour for some rows, ``(8 * dilations, bottom - top, W)``.

        Args:
            pixels: ``(3, H, W)``.
            top: First row.
            bottom: Last row, exclusive.
        """
        around = self._around(pixels, top, bottom)
        out = pixels.new_empty(8 * len(self.dilations), bottom - top, pixels.shape[2])
        self.weigh(pixels[:, top:bottom], list(self._neighbours(around)), out)
        return out

    def weigh(self, pixels: Tensor, neighbours: list[Tensor], out: Tensor) -> None:
        """Write the weight of each neighbour.

        Args:
            pixels: ``(3, h, W)``, some rows of the image.
            neighbours: The neighbours of these, the same shape each.
            out: ``(8 * dilations, h, W)``.
        """
        raise NotImplementedError


def _deviation(values: Sequence[Tensor]) -> Tensor:
    """Standard deviation, unbiased, over tensors of one shape, without stacking them."""
    mean = sum(values, torch.zeros_like(values[0])) / len(values)
    variance = sum(((one - mean) ** 2 for one in values), torch.zeros_like(mean))
    return (variance / (len(values) - 1)).sqrt()


def _softmax_(x: Tensor) -> Tensor:
    """Softmax over the first dimension, in place."""
    x.sub_(x.amax(dim=0)).exp_()
    return x.div_(x.sum(dim=0))


@MODELS.register_module()
class PAMR(PixelAdaptive):
    """Pixel-adaptive mask refinement (Araslanov & Roth, 2020).

    A neighbour weighs as much as its colour is similar.

    Args:
        iterations: Steps; published with NACLIP and ITACLIP: 10.
        dilations: Distances of the 8 neighbours, in pixels.
        max_memory: See :class:`PixelAdaptive`.
    """

    def __init__(
        self,
        iterations: int = 10,
        dilations: Sequence[int] = (8, 16),
        max_memory: float = 512.0,
    ) -> None:
        super().__init__(iterations, dilations, max_memory)

    def weigh(self, pixels: Tensor, neighbours: list[Tensor], out: Tensor) -> None:
        """See :class:`PixelAdaptive`; the weights sum to 1."""
        # The deviation is over the neighbours and, once a dilation, the pixel itself.
        scale = 1e-8 + 0.1 * _deviation([*neighbours, *([pixels] * len(self.dilations))])
        for one, weight in zip(neighbours, out, strict=True):
            torch.mean(-((one - pixels).abs() / scale), dim=0, out=weight)
        _softmax_(out)


@MODELS.register_module()
class PAR(PixelAdaptive):
    """Pixel-adaptive refinement by colour and distance (AFA, CVPR 2022; used by ExCEL).

    In the released code, the weights of a pixel sum to 1.01, so all planes grow by the same 22 % in
    20 steps. Here they sum to 1, so probabilities stay in [0, 1]; the labels are the same.

    Args:
        iterations: Steps; published: 20.
        dilations: Distances of the 8 neighbours, in pixels.
        max_memory: See :class:`PixelAdaptive`.
    """

    SHARPNESS = 0.3
    DISTANCE_WEIGHT = 0.01

    def __init__(
        self,
        iterations: int = 20,
        dilations: Sequence[int] = (1, 2, 4, 8, 12, 24),
        max_memory: float = 512.0,
    ) -> None:
        super().__init__(iterations, dilations, max_memory)

    def weigh(self, pixels: Tensor, neighbours: list[Tensor], out: Tensor) -> None:
        """See :class:`PixelAdaptive`; the weights sum to 1."""
        scale = self.SHARPNESS * (1e-8 + _deviation(neighbours))
        for one, weight in zip(neighbours, out, strict=True):
            torch.mean(-(((one - pixels) / scale) ** 2), dim=0, out=weight)
        _softmax_(out)
        near = torch.tensor([math.sqrt(2), 1, math.sqrt(2), 1, 1, math.sqrt(2), 1, math.sqrt(2)])
        distance = torch.cat([dilation * near for dilation in self.dilations])
        scale = self.SHARPNESS * (1e-8 + distance.std())
        position = self.DISTANCE_WEIGHT * (-((distance / scale) ** 2)).softmax(dim=0)
        out.add_(position.to(out)[:, None, None]).div_(1 + self.DISTANCE_WEIGHT)
