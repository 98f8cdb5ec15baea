"""RADSeg: attention by what ordinary attention returns, and an average of alike patches."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..block import attend
from .base import LastBlock, LastBlockContext, last_block

# Published factor of the cosines, in both steps.
SHARPNESS = 10.0


@last_block
class RADSegLastBlock(LastBlock):
    """Self-correlating recursive attention, then self-correlating global aggregation (RADSeg).

    The output of ordinary attention is split into heads again, and tokens attend by its cosines.
    Behind the tower's norm, patches become the mean of those that are more alike than the mean of
    their image; the released code takes the mean over the batch.

    Args:
        residual: See :class:`LastBlock`.
        mlp: See :class:`LastBlock`.
        aggregate: Whether the second step follows.
    """

    def __init__(self, residual: bool = True, mlp: bool = True, aggregate: bool = True) -> None:
        super().__init__(residual, mlp)
        self.aggregate = aggregate

    def attend(self, context: LastBlockContext) -> Tensor:
        """Attend by the cosines of what ordinary attention returns."""
        q, k, v = context.qkv
        out = context.block.attention_output(attend(q, k, v))
        unit = F.normalize(out.unflatten(-1, (v.shape[1], -1)).transpose(1, 2), dim=-1)
        return alike(SHARPNESS * unit @ unit.transpose(2, 3)).to(v.dtype) @ v

    def gather(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Replace the patches by the mean of those that are alike."""
        if not self.aggregate:
            return tokens
        lead = tokens.shape[1] - grid[0] * grid[1]
        patches = tokens[:, lead:]
        unit = F.normalize(patches, dim=-1)
        cosines = unit @ unit.transpose(1, 2)
        weights = alike(SHARPNESS * (cosines - cosines.mean(dim=(1, 2), keepdim=True)))
        return torch.cat([tokens[:, :lead], weights @ patches], dim=1)


def alike(logits: Tensor) -> Tensor:
    """Softmax over the logits that are not negative; each row's own is not."""
    return logits.masked_fill(logits < 0, -torch.inf).softmax(dim=-1)
