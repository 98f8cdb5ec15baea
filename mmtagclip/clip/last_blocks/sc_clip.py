"""SC-CLIP, the self-calibrated last block: repairs outliers, averages similar patches.

Each image of a batch is calibrated separately, and any grid works. (The released
code assumes a square grid for the outliers' columns and mixes the images of a
batch.)
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import LastBlock, LastBlockContext, at_depth, last_block

# Published constants, the same for every model and data set.
NEIGHBOURS = 30
OUTLIER_QUANTILE = 0.95
LEAST_SIMILARITY = 0.4
SHARPNESS = 3.0


@last_block
class SCCLIPLastBlock(LastBlock):
    """Self-calibrated CLIP (SC-CLIP, 2024); no residual, no MLP.

    Tokens in front of the patches are passed through unchanged; without a class token, none is
    added. Defaults are as published for 12 and 24 blocks; at other depths they are the same shares
    as of 12, which are ours.

    Args:
        similarity_layer: Block, from 0, whose output gives the similarity of
            patches while features are computed. Published: 8 of 12, 16 of 24.
        output_layer: Block whose output gives the similarity for the final
            average. Published: 3 of 12, 6 of 24.
        fusion_layers: Blocks whose outputs are summed for the second pass.
            Published: 3 to 9 of 12, 8 to 18 of 24.
        class_token_weight: Weight of the class token that is added to all
            patches. Published: 0.3 for 12 blocks, 0.1 for 24; 0.1 above 12.

    Raises:
        ValueError: ``fusion_layers`` is empty.
    """

    def __init__(
        self,
        similarity_layer: int | None = None,
        output_layer: int | None = None,
        fusion_layers: Sequence[int] | None = None,
        class_token_weight: float | None = None,
    ) -> None:
        super().__init__(residual=False, mlp=False)
        if fusion_layers is not None and not fusion_layers:
            raise ValueError('SCCLIPLastBlock needs at least one fusion layer')
        self._given = similarity_layer, output_layer, fusion_layers, class_token_weight
        self.set_depth(12)

    def set_depth(self, num_blocks: int) -> None:
        """See :class:`LastBlock`."""
        similar, out, fused, weight = self._given
        published = num_blocks == 24
        small = num_blocks <= 12
        layers = tuple(range(8, 19)) if published else at_depth(range(3, 10), num_blocks)
        self.similarity_layer = at_depth((8,), num_blocks)[0] if similar is None else similar
        self.output_layer = at_depth((3,), num_blocks)[0] if out is None else out
        self.fusion_layers = layers if fused is None else tuple(fused)
        self.class_token_weight = (0.3 if small else 0.1) if weight is None else weight
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
        """Run the block, in float32 except for its projections.

        Returns:
            ``(B, P+N, width)``, and the grid.
        """

        def output(layer: int) -> Tensor:
            return context.inputs[layer + 1]

        x, grid, lead = context.x, context.grid, context.lead
        outliers = find_outliers(x[:, lead:])
        similarity = cosines(mend(output(self.similarity_layer)[:, lead:], outliers, grid))
        mended = gather(similarity, mend(x[:, lead:], outliers, grid))
        first = self.calibrated(mended, similarity, x[:, :lead], context)
        total = sum((output(layer) for layer in self.fusion_layers), torch.zeros_like(x))
        second = self.calibrated(total[:, lead:], similarity, total[:, :lead], context)
        alike = cosines(output(self.output_layer)[:, lead:])
        patches = gather(alike, first) + gather(alike, second)
        return torch.cat([x[:, :lead], patches], dim=1), grid

    def calibrated(
        self, patches: Tensor, similarity: Tensor, lead: Tensor, context: LastBlockContext
    ) -> Tensor:
        """Attend half by similarity and half by keys, and add a share of the class token.

        Args:
            patches: ``(B, N, width)``.
            similarity: ``(B, N, N)`` cosines.
            lead: ``(B, P, width)`` tokens in front of the patches; the first is the class token.
            context: The context; norm and projections of its last block are used.

        Returns:
            ``(B, N, width)`` float32.
        """
        block = context.block
        _, k, v = block.query_key_value(patches)
        logits = SHARPNESS * (similarity - similarity.mean(dim=(1, 2), keepdim=True))
        attention = logits.masked_fill(logits < 0, -torch.inf).softmax(dim=-1).to(v.dtype)
        y = (attention[:, None] @ v + F.scaled_dot_product_attention(k, k, v)) / 2
        out = block.attention_output(y)
        return out + self.class_token_weight * lead[:, :1] if lead.shape[1] else out


def find_outliers(patches: Tensor) -> Tensor:
    """Find patches that are further from their neighbours than these are from theirs.

    ``d`` is the squared distance of a patch to its 30th nearest other patch. The
    local outlier factor of a patch is the mean over its 30 nearest patches of its
    own ``d`` divided by theirs. Outliers are above the 0.95 quantile of their image.

    Args:
        patches: ``(B, N, width)`` float32.

    Returns:
        ``(B, N)`` bool. All False if there are at most 31 patches, because then all
        are neighbours of each other (the released code fails there).
    """
    factor = local_outlier_factor(patches)
    return factor > torch.quantile(factor, OUTLIER_QUANTILE, dim=1, keepdim=True)


def local_outlier_factor(patches: Tensor) -> Tensor:
    """Compute the factors ``(B, N)``, see :func:`find_outliers`; all 1 for at most 31 patches."""
    count = patches.shape[1]
    if count - 1 <= NEIGHBOURS:
        return torch.ones(patches.shape[:2], device=patches.device)
    patches = patches - patches.mean(dim=1, keepdim=True)  # smaller values lose less to rounding
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
    """Replace outliers by the mean of those of their 8 neighbours that are not outliers, if any.

    Args:
        patches: ``(B, N, width)``.
        outliers: ``(B, N)`` bool.
        grid: ``(h, w)``.

    Returns:
        ``(B, N, width)``.
    """
    sound = (~outliers).to(patches.dtype)[..., None]
    both = torch.cat([patches * sound, sound], dim=-1).transpose(1, 2).unflatten(2, grid)
    # Mean over the 3x3 window, with edges counted. An outlier adds nothing to it.
    both = F.avg_pool2d(both, 3, stride=1, padding=1).flatten(2).transpose(1, 2)
    around, share = both[..., :-1], both[..., -1:]
    return torch.where(outliers[..., None] & (share > 0), around / share, patches)


def cosines(patches: Tensor) -> Tensor:
    """Compute the cosines ``(B, N, N)`` between the patches ``(B, N, width)`` of each image."""
    unit = F.normalize(patches, dim=-1)
    return unit @ unit.transpose(1, 2)


def gather(similarity: Tensor, patches: Tensor) -> Tensor:
    """Average the patches ``(B, N, width)`` that are similar, weighted by the similarity."""
    weight = torch.where(similarity < LEAST_SIMILARITY, 0, similarity)
    return weight / (weight.sum(dim=-1, keepdim=True) + 1e-6) @ patches
