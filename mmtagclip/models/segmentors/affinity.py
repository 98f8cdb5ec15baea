"""Spreading CAMs along the attention between patches (CLIP-ES, sec. 3.4; CLS-SEG)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...clip import AttentionStatistics
from ...registry import MODELS
from ..maps import fill_boxes, layers_from, scale_cam


@MODELS.register_module()
class AffinityRefinement(nn.Module):
    """Class-aware affinity: Sinkhorn-normalised attention, masked by each CAM's boxes.

    Args:
        layers: Layers, from 0, whose mean attention map is used. Default: the last two thirds
            without the last layer, ``ceil(L/3)`` to ``L-2``. Published for 12 blocks: 4 to 10 for
            VOC, which this is, and 4 to 11 for COCO and COCO-Stuff.
        box_threshold: A CAM's boxes surround the regions above this share of its
            maximum; published: 0.4 for VOC, 0.7 for COCO and COCO-Stuff.
        iterations: How often columns, then rows, are normalised.
        layer_weights: Weight of each of the ``layers`` in the mean, in their order. Default: all
            the same. ExCEL's released code averages the first of its last six layers over
            the heads and sums the others, so it has ``[1, 12, 12, 12, 12, 12]`` for 12 heads.

    Raises:
        ValueError: No layers, a threshold outside [0, 1], or weights that are not those of the
            ``layers``.
    """

    def __init__(
        self,
        layers: Sequence[int] | None = None,
        box_threshold: float = 0.4,
        iterations: int = 3,
        layer_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if layers is not None and not layers:
            raise ValueError('AffinityRefinement needs at least one layer of attention')
        if not 0 <= box_threshold <= 1:
            raise ValueError(
                f'AffinityRefinement needs a box_threshold in [0, 1], not {box_threshold}'
            )
        if layer_weights is not None and (
            len(layer_weights) != len(layers or ()) or min(layer_weights) <= 0
        ):
            raise ValueError(
                'AffinityRefinement needs a positive layer_weight for each of its layers, not '
                f'layer_weights={list(layer_weights)} for layers={layers and list(layers)}'
            )
        self._given = layers
        self.layer_weights = None if layer_weights is None else tuple(layer_weights)
        self.set_depth(12)
        self.box_threshold = box_threshold
        self.iterations = iterations

    def set_depth(self, num_blocks: int) -> None:
        """Choose the layers that were left open for a tower of this many blocks."""
        given = self._given
        self.layers = layers_from(1 / 3, num_blocks) if given is None else tuple(given)

    @property
    def layer_sets(self) -> dict[tuple[int, ...], float]:
        """The sets of layers whose mean maps are needed, and the weight of each set's mean."""
        if self.layer_weights is None:
            return {self.layers: 1.0}
        by_weight: dict[float, list[int]] = {}
        for layer, weight in zip(self.layers, self.layer_weights, strict=True):
            by_weight.setdefault(weight, []).append(layer)
        total = sum(self.layer_weights)
        return {
            tuple(sorted(layers)): weight * len(layers) / total
            for weight, layers in by_weight.items()
        }

    def mean(self, attention: AttentionStatistics) -> Tensor:
        """The weighted mean map ``(B, N, N)`` of the layers.

        Args:
            attention: Statistics with the mean maps of :attr:`layer_sets`.
        """
        maps = [share * attention.mean(layers) for layers, share in self.layer_sets.items()]
        return sum(maps[1:], maps[0])

    def forward(self, cams: Tensor, attention: Tensor, grid: tuple[int, int]) -> Tensor:
        """Refine the CAMs of one image.

        Args:
            cams: ``(T, N)`` in [0, 1].
            attention: ``(N, N)`` of :meth:`mean`.
            grid: ``(h, w)``, ``N = h * w``.

        Returns:
            ``(T, N)`` in [0, 1].
        """
        return scale_cam(self.spread(cams, attention, grid))

    def spread(self, cams: Tensor, attention: Tensor, grid: tuple[int, int]) -> Tensor:
        """The same, ``(T, N)``, before it is scaled to [0, 1]."""
        affinity = self.affinity(attention)
        masked = (cams * self.box_mask(cams, grid)).T
        # The affinity is squared; two products with T columns do the same as one of N columns.
        return (affinity @ (affinity @ masked)).T

    def affinity(self, attention: Tensor) -> Tensor:
        """Sinkhorn-normalised and symmetrised map ``(N, N)``, before it is squared.

        A row or column that sums to zero stays zero.
        """
        affinity = attention.clone()
        for _ in range(self.iterations):
            for dim in (0, 1):
                total = affinity.sum(dim=dim, keepdim=True)
                affinity /= torch.where(total > 0, total, 1)
        return (affinity + affinity.T) / 2

    def box_mask(self, cams: Tensor, grid: tuple[int, int]) -> Tensor:
        """Union of the boxes of each CAM ``(T, N)``, bool; far edges as in DMAR."""
        quantised = (cams * 255).to(torch.uint8)
        limits = self.box_threshold * quantised.amax(dim=1, keepdim=True).double()
        above = (quantised > limits.to(torch.uint8)).unflatten(1, grid)
        return fill_boxes(above).flatten(1)
