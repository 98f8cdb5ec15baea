"""What the last block of the image tower does: the part where dense encoders differ.

A policy turns the input of block L-1 into its output. It knows no classes and
needs no maps; the encoder records the block's ordinary attention beside it.
"""
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn

from .block import attend, attention_output, feed_forward


class OrdinaryLastBlock(nn.Module):
    """The block as CLIP trained it; gives CLIP's own class token."""

    def forward(self, block: ResidualAttentionBlock, x: Tensor,
                qkv: tuple[Tensor, Tensor, Tensor], class_mask: Tensor | None = None) -> Tensor:
        """Run the block.

        Args:
            block: Block L-1.
            x: ``(B, 1+N, width)`` its input.
            qkv: Its queries, keys and values for ``x``,
                ``(B, heads, 1+N, width/heads)`` each.
            class_mask: See :func:`~mmtagclip.clip.block.attend`.

        Returns:
            ``(B, 1+N, width)``.
        """
        x = x + attention_output(block, attend(*qkv, class_mask))
        return x + feed_forward(block, x)


class SelfOnlyLastBlock(nn.Module):
    """Every token attends only to itself: TagCLIP, sec. 3.2, and MaskCLIP.

    The attention output is the projected value; residual and MLP stay.
    """

    def forward(self, block: ResidualAttentionBlock, x: Tensor,
                qkv: tuple[Tensor, Tensor, Tensor], class_mask: Tensor | None = None) -> Tensor:
        """Run the block; arguments as in :class:`OrdinaryLastBlock`.

        Raises:
            ValueError: A ``class_mask`` is given, which would mean nothing here.
        """
        if class_mask is not None:
            raise ValueError('a class_mask has no effect where every token attends to itself; use '
                             'OrdinaryLastBlock')
        x = x + attention_output(block, qkv[2])
        return x + feed_forward(block, x)
