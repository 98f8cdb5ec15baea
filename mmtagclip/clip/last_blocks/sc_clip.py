"""SC-CLIP, the self-calibrated last block: outliers mended, features gathered from alike patches.

Every image of a batch is calibrated by itself, and any grid works. (Published
copies of the program take the outliers' columns from a square grid, and mix
the images of a batch.)
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..block import attention_output, project_qkv
from .base import LastBlock, LastBlockContext, last_block

# The published constants that no model or data set changes.
NEIGHBOURS = 30
OUTLIER_QUANTILE = 0.95
LEAST_SIMILARITY = 0.4
SHARPNESS = 3.0


@last_block
class SCCLIPLastBlock(LastBlock):
    """Self-calibrated CLIP (SC-CLIP, 2024); no residual, no MLP.

    It has no use for a class token; that of its result is the one of the
    block's input. Options that are None are as published for 12 blocks;
    another depth needs its own.

    Args:
        similarity_layer: Output of which block, from 0, tells how alike patches
            are while features are made; published: 8 of 12 blocks (None), 16 of
            24.
        output_layer: Of which block, while they are gathered at the end;
            published: 3 of 12 (None), 6 of 24.
        fusion_layers: Outputs of which blocks are added up for the second
            pass; published: 3 to 9 of 12 (None), 8 to 18 of 24.
        class_token_weight: Weight of the class token that is added to all
            patches; published: 0.3 for 12 blocks (None), 0.1 for 24.

    Raises:
        ValueError: No fusion layers.
    """

    def __init__(
        self,
        similarity_layer: int | None = None,
        output_layer: int | None = None,
        fusion_layers: Sequence[int] | None = None,
        class_token_weight: float | None = None,
    ) -> None:
        super().__init__(residual=False, mlp=False)
        given = {
            'similarity_layer': similarity_layer,
            'output_layer': output_layer,
            'fusion_layers': fusion_layers,
            'class_token_weight': class_token_weight,
        }
        self.depth_options = tuple(key for key, value in given.items() if value is None)
        self.similarity_layer = 8 if similarity_layer is None else similarity_layer
        self.output_layer = 3 if output_layer is None else output_layer
        self.fusion_layers = tuple(range(3, 10) if fusion_layers is None else fusion_layers)
        self.class_token_weight = 0.3 if class_token_weight is None else class_token_weight
        if not self.fusion_layers:
            raise ValueError('SCCLIPLastBlock needs at least one fusion layer')
        # The output of block i is the input of block i + 1.
        self.block_inputs = tuple(
            sorted(
                {
                    layer + 1
                    for layer in (self.similarity_layer, self.output_layer, *self.fusion_layers)
                }
            )
        )

    def forward(self, context: LastBlockContext) -> tuple[Tensor, tuple[int, int]]:
        """Run the block; all but its projections in float32.

        Returns:
            ``(B, 1+N, width)``, and the grid.
        """

        def output(layer: int) -> Tensor:
            return context.inputs[layer + 1]

        x, grid = context.x, context.grid
        outliers = find_outliers(x[:, 1:])
        similarity = cosines(mend(output(self.similarity_layer)[:, 1:], outliers, grid))
        mended = gather(similarity, mend(x[:, 1:], outliers, grid))
        first = self.calibrated(mended, similarity, x[:, :1], context)
        total = sum((output(layer) for layer in self.fusion_layers), torch.zeros_like(x))
        second = self.calibrated(total[:, 1:], similarity, total[:, :1], context)
        alike = cosines(output(self.output_layer)[:, 1:])
        patches = gather(alike, first) + gather(alike, second)
        return torch.cat([x[:, :1], patches], dim=1), grid

    def calibrated(
        self, patches: Tensor, similarity: Tensor, class_token: Tensor, context: LastBlockContext
    ) -> Tensor:
        """Attention half by similarity and half by keys, plus a share of the class token.

        Args:
            patches: ``(B, N, width)``.
            similarity: ``(B, N, N)`` cosines.
            class_token: ``(B, 1, width)``.
            context: Whose last block's norm and projections are used.

        Returns:
            ``(B, N, width)`` float32.
        """
        block = context.block
        _, k, v = project_qkv(block, block.ln_1(patches))
        logits = SHARPNESS * (similarity - similarity.mean(dim=(1, 2), keepdim=True))
        attention = logits.masked_fill(logits < 0, -torch.inf).softmax(dim=-1).to(v.dtype)
        y = (attention[:, None] @ v + F.scaled_dot_product_attention(k, k, v)) / 2
        return attention_output(block, y) + self.class_token_weight * class_token


def find_outliers(patches: Tensor) -> Tensor:
    """Patches that are further from their neighbours than these are from theirs.

    The local outlier factor of a patch is the mean, over its 30 nearest other
    patches, of its own squared distance to the 30th over theirs; outliers are
    those above the 0.95 quantile of their image.

    Args:
        patches: ``(B, N, width)`` float32.

    Returns:
        ``(B, N)`` bool; none where a patch has no more than 30 others, so that
        all are neighbours of each other (the published program fails there).
    """
    factor = local_outlier_factor(patches)
    return factor > torch.quantile(factor, OUTLIER_QUANTILE, dim=1, keepdim=True)


def local_outlier_factor(patches: Tensor) -> Tensor:
    """Local outlier factors ``(B, N)``, 1 where there are none; see :func:`find_outliers`."""
    count = patches.shape[1]
    if count - 1 <= NEIGHBOURS:
        return torch.ones(patches.shape[:2], device=patches.device)
    patches = patches - patches.mean(dim=1, keepdim=True)  # the smaller, the less is rounded away
    squares = patches.square().sum(dim=-1)
    distance = (
        squares[:, :, None] + squares[:, None, :] - 2 * patches @ patches.transpose(1, 2)
    ).clamp_(min=0)
    distance.diagonal(dim1=1, dim2=2).fill_(torch.inf)
    nearest, index = distance.topk(NEIGHBOURS, dim=-1, largest=False)
    reach = nearest[..., -1]
    theirs = reach[:, None].expand(-1, count, -1).gather(2, index)
    return (reach[..., None] / theirs.clamp(min=1e-12)).mean(dim=-1)


def mend(patches: Tensor, outliers: Tensor, grid: tuple[int, int]) -> Tensor:
    """Replace outliers by the mean of those of their 8 neighbours that are none, if any.

    Args:
        patches: ``(B, N, width)``.
        outliers: ``(B, N)`` bool.
        grid: ``(h, w)``.

    Returns:
        ``(B, N, width)``.
    """
    sound = (~outliers).to(patches.dtype)[..., None]
    both = torch.cat([patches * sound, sound], dim=-1).transpose(1, 2).unflatten(2, grid)
    # The mean over the 3x3 window, edges counted in; an outlier itself adds nothing to it.
    both = F.avg_pool2d(both, 3, stride=1, padding=1).flatten(2).transpose(1, 2)
    around, share = both[..., :-1], both[..., -1:]
    return torch.where(outliers[..., None] & (share > 0), around / share, patches)


def cosines(patches: Tensor) -> Tensor:
    """Cosines ``(B, N, N)`` between the patches ``(B, N, width)`` of each image."""
    unit = F.normalize(patches, dim=-1)
    return unit @ unit.transpose(1, 2)


def gather(similarity: Tensor, patches: Tensor) -> Tensor:
    """Mean ``(B, N, width)`` over the patches that are alike, weighted by how much."""
    weight = torch.where(similarity < LEAST_SIMILARITY, 0, similarity)
    return weight / (weight.sum(dim=-1, keepdim=True) + 1e-6) @ patches
