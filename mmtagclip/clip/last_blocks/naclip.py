"""NACLIP: keys to keys, with more weight on near patches."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import LastBlock, LastBlockContext, last_block


@last_block
class NACLIPLastBlock(LastBlock):
    """Keys to keys, with more weight on near patches (NACLIP, WACV 2025), no residual, no MLP.

    Args:
        std: Standard deviation, in patches, of the Gaussian of the distance that is
            added to the logits between patches; published: 5.
        residual: See :class:`LastBlock`.
        mlp: See :class:`LastBlock`.

    Raises:
        ValueError: ``std`` is not positive.
    """

    def __init__(self, std: float = 5.0, residual: bool = False, mlp: bool = False) -> None:
        super().__init__(residual, mlp)
        if std <= 0:
            raise ValueError(f'NACLIPLastBlock needs std > 0, not {std}')
        self.std = std

    def attend(self, context: LastBlockContext) -> Tensor:
        """Attend from keys to keys, with the Gaussian of the distance."""
        _, k, v = context.qkv
        return F.scaled_dot_product_attention(k, k, v, attn_mask=self.nearness(context, k))

    def nearness(self, context: LastBlockContext, like: Tensor) -> Tensor:
        """Return ``(P+N, P+N)`` in [0, 1]: the Gaussian between patches, 0 for other tokens."""
        axes = [
            torch.arange(side, dtype=torch.float32, device=like.device) for side in context.grid
        ]
        y, x = (torch.exp(-((axis - axis[:, None]) ** 2) / (2 * self.std**2)) for axis in axes)
        patches = (y[:, None, :, None] * x[None, :, None, :]).flatten(2).flatten(0, 1)
        return F.pad(patches, (context.lead, 0, context.lead, 0)).to(like.dtype)
