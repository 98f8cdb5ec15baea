"""DMAR, the dual-masking attention refinement of score maps (TagCLIP, sec. 3.3)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...clip import AttentionStatistics
from ...registry import MODELS
from ..maps import fill_boxes, layers_from, min_max


@MODELS.register_module()
class DMAR(nn.Module):
    """Dual-masking attention refinement.

    Scores spread along the attention between patches, masked twice: by how many
    layers agree that two patches attend to each other, and by the boxes in
    which a class scored after a first spreading.

    All scores stay finite. If a class's first refinement is the same on all
    patches, its class mask covers all of them. On a grid of one patch, the patch
    attends to itself. On a grid of one row or column, boxes reach its end. The
    released code returns NaN or zeros in these cases.

    Args:
        layers: Layers, from 0, whose mean attention map is used. Default: the last third
            without the last layer, ``ceil(2L/3)`` to ``L-2``. Published for 12 blocks: 8 to 10,
            which this is, and 0 to 10 on COCO-Stuff.
        votes: Minimum number of layers in which an attention weight exceeds its
            map's mean, so that it is kept. Default: a third, ``round(L/3)``. Published for 12
            blocks: 4, which this is.

    Raises:
        ValueError: No layers, or fewer than one vote.
    """

    def __init__(self, layers: Sequence[int] | None = None, votes: int | None = None) -> None:
        super().__init__()
        if layers is not None and not layers:
            raise ValueError('DMAR needs at least one layer of attention')
        if votes is not None and votes < 1:
            raise ValueError(f'DMAR needs votes >= 1, not {votes}')
        self._given = layers, votes
        self.set_depth(12)

    def set_depth(self, num_blocks: int) -> None:
        """Choose the layers and votes that were left open for a tower of this many blocks."""
        layers, votes = self._given
        self.layers = layers_from(2 / 3, num_blocks) if layers is None else tuple(layers)
        self.votes = max(1, round(num_blocks / 3)) if votes is None else votes

    def forward(
        self, scores: Tensor, attention: AttentionStatistics, grid: tuple[int, int]
    ) -> Tensor:
        """Refine coarse scores.

        Args:
            scores: ``(B, N, C)`` coarse scores.
            attention: Statistics with votes and the mean map of :attr:`layers`.
            grid: ``(h, w)``, ``N = h * w``.

        Returns:
            ``(B, N, C)`` refined scores.
        """
        masked = self.masked_attention(attention)
        mask = self.class_mask(masked @ scores, grid)
        return masked @ (mask * scores)

    def masked_attention(self, attention: AttentionStatistics) -> Tensor:
        """Mean attention ``(B, N, N)`` where enough layers agree, else 0."""
        if attention.votes is None:
            raise ValueError('DMAR needs attention statistics with votes')
        kept = attention.votes >= self.votes
        if kept.shape[-1] == 1:
            kept = torch.ones_like(kept)
        return attention.mean(self.layers) * kept

    def class_mask(self, refined: Tensor, grid: tuple[int, int]) -> Tensor:
        """Where each class may score: boxes around where its map is above its mean.

        Args:
            refined: ``(B, N, C)`` scores after the first refinement.
            grid: ``(h, w)``.

        Returns:
            ``(B, N, C)`` bool.
        """
        scaled = min_max(refined, dim=1)
        quantised = (scaled * 255).to(torch.uint8)
        # The released code binarises a uint8 map at the truncated product of mean and maximum.
        limit = (scaled.mean(dim=1, keepdim=True) * quantised.amax(dim=1, keepdim=True)).to(
            torch.uint8
        )
        boxes = fill_boxes((quantised > limit).transpose(1, 2).unflatten(2, grid))
        mask = boxes.flatten(2).transpose(1, 2)
        constant = refined.amax(dim=1, keepdim=True) == refined.amin(dim=1, keepdim=True)
        return mask | constant
