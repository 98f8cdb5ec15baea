"""Fit probabilities to the edges of the image: dense CRF, PAMR."""

import importlib
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


@MODELS.register_module()
class PAMR(nn.Module):
    """Pixel-adaptive mask refinement (Araslanov & Roth, 2020), on any device.

    Each step replaces a pixel's values by a mean over its neighbours, weighted
    by how similar their colours are.

    Args:
        iterations: Steps; published with NACLIP and ITACLIP: 10.
        dilations: Distances of the 8 neighbours, in pixels.
    """

    def __init__(self, iterations: int = 10, dilations: tuple[int, ...] = (8, 16)) -> None:
        super().__init__()
        self.iterations = iterations
        self.dilations = tuple(dilations)

    def forward(self, probabilities: Tensor, image: np.ndarray | Tensor) -> Tensor:
        """Refine probabilities or logits.

        Args:
            probabilities: ``(K, H, W)``.
            image: ``(H, W, 3)``, any range and order of channels.

        Returns:
            ``(K, H, W)``.
        """
        pixels = (
            torch.as_tensor(np.ascontiguousarray(image) if isinstance(image, np.ndarray) else image)
            .to(probabilities.device)
            .float()
            .permute(2, 0, 1)
        )
        weights = self.weights(pixels)
        for _ in range(self.iterations):
            total = torch.zeros_like(probabilities)
            for weight, neighbour in zip(weights, self.neighbours(probabilities), strict=True):
                total += weight * neighbour
            probabilities = total
        return probabilities

    def weights(self, pixels: Tensor) -> Tensor:
        """Weight of each neighbour, ``(8 * dilations, H, W)``, which sum to 1.

        Args:
            pixels: ``(3, H, W)``.
        """
        # The deviation is over the neighbours and, once a dilation, the pixel itself.
        around = [*self.neighbours(pixels), *([pixels] * len(self.dilations))]
        count = len(around)
        mean = sum(around, torch.zeros_like(pixels)) / count
        variance = sum(((one - mean) ** 2 for one in around), torch.zeros_like(pixels))
        scale = 1e-8 + 0.1 * (variance / (count - 1)).sqrt()
        likeness = [-((one - pixels).abs() / scale).mean(dim=0) for one in self.neighbours(pixels)]
        return torch.stack(likeness).softmax(dim=0)

    def neighbours(self, x: Tensor) -> Any:
        """The 8 neighbours of ``x`` ``(K, H, W)`` at each dilation, edges replicated."""
        height, width = x.shape[1:]
        for dilation in self.dilations:
            padded = F.pad(x[None], (dilation,) * 4, mode='replicate')[0]
            for top in range(0, 2 * dilation + 1, dilation):
                for left in range(0, 2 * dilation + 1, dilation):
                    if (top, left) != (dilation, dilation):
                        yield padded[:, top : top + height, left : left + width]
