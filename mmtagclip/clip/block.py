"""One transformer block, run from outside in its steps, and its attention maps.

The libraries' blocks neither return attention maps nor accept a mask for one row. A
:class:`Block` calls the public submodules of such a block in the same order and does not change
them. A block's input and output are float32; matrix products have the dtype of the weights.

``P`` is the number of tokens in front of the patches: the class token, if there is one, then
registers.
"""

from abc import ABC, abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

QKV = tuple[Tensor, Tensor, Tensor]
# Entries of an attention map that are processed together: 6 MB, which fit in the cache.
MAP_ENTRIES = 1_500_000
LINE = 16  # float32 of a cache line
# Added to the attention logits at patches that must not be seen; published for CWR.
MASKED = -1000.0


class Block(ABC):
    """One transformer block, bound to a patch grid.

    ``x += attention_output(y)``, then ``x = after_attention(x)``, where ``y`` is the attention of
    :meth:`query_key_value`.

    Attributes:
        module: The library's block.
    """

    module: Any

    @property
    def qkv_weight(self) -> Tensor | None:
        """The matrix ``(3 width, width)`` of :meth:`project_qkv`; None if it does more."""
        return None

    @abstractmethod
    def norm(self, x: Tensor) -> Tensor:
        """Return what the queries, keys and values are computed from, ``(B, P+N, width)``."""

    @abstractmethod
    def project_qkv(self, y: Tensor) -> QKV:
        """Compute queries, keys and values from the output ``(B, P+N, width)`` of :meth:`norm`.

        The patches are the last N tokens. There may be no others.

        Returns:
            Three tensors ``(B, heads, P+N, d)``, unscaled, with rotary positions if the tower has
            them, in the dtype of the weights.
        """

    @abstractmethod
    def attention_output(self, y: Tensor) -> Tensor:
        """Compute what is added to the input: ``(B, heads, n, d)`` to ``(B, n, width)`` float32."""

    @abstractmethod
    def mlp_input(self, x: Tensor) -> Tensor:
        """Return what the MLP reads of the stream ``(B, n, width)`` behind the attention."""

    @abstractmethod
    def feed_forward(self, x: Tensor) -> Tensor:
        """Apply norm and MLP, without the residual: ``(B, n, width)`` float32."""

    def after_attention(self, x: Tensor) -> Tensor:
        """Run what follows the attention and its residual, ``(B, n, width)`` to the output."""
        return x + self.feed_forward(x)

    def query_key_value(self, x: Tensor) -> QKV:
        """Compute queries, keys and values of the block's input ``(B, P+N, width)`` float32."""
        return self.project_qkv(self.norm(x))

    def ordinary(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        """Run the block as it was trained: ``(B, P+N, width)`` to ``(B, P+N, width)``.

        Args:
            x: Input of the block.
            seen: See :func:`attend`.
        """
        return self.after_attention(
            x + self.attention_output(attend(*self.query_key_value(x), seen))
        )

    def first_token(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        """Run the block as it was trained, for the first token alone.

        Args:
            x: ``(B, P+N, width)`` input of the block.
            seen: See :func:`attend`.

        Returns:
            ``(B, 1, width)``.
        """
        q, k, v = self.query_key_value(x)
        return self.finish_first_token(x, q[:, :, :1], k, v, seen)

    def finish_first_token(
        self, x: Tensor, q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None
    ) -> Tensor:
        """The rest of :meth:`first_token`, from its queries ``(B, heads, 1, d)``."""
        row = None if seen is None else mask_row(seen, k)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=row)
        return self.after_attention(x[:, :1] + self.attention_output(y))


def ride(
    block: Block, riders: Tensor, x: Tensor, seen: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Run a block for tokens that ride along, which the others do not see.

    Args:
        block: The block.
        riders: ``(B, R, width)`` input of the block.
        x: ``(B, P+N, width)``, the same of the other tokens.
        seen: ``(B, 1, R, P+N)`` bool, which of those each rider attends to.

    Returns:
        Queries, keys and values of the other tokens, as :meth:`Block.query_key_value` returns
        them, and the output ``(B, R, width)`` of the riders.
    """
    count = riders.shape[1]
    queries, keys, values = block.query_key_value(torch.cat([riders, x], dim=1))
    q, k, v = (one[:, :, count:] for one in (queries, keys, values))
    y = F.scaled_dot_product_attention(queries[:, :, :count], k, v, attn_mask=seen)
    return q, k, v, block.after_attention(riders + block.attention_output(y))


def mask_row(seen: Tensor, k: Tensor) -> Tensor:
    """Return the logits ``(B, 1, 1, P+N)`` that hide patches from one row of attention.

    Args:
        seen: ``(B, N)`` bool.
        k: ``(B, heads, P+N, d)`` keys. The tokens in front of the patches are always seen.
    """
    row = F.pad(MASKED * ~seen, (k.shape[2] - seen.shape[1], 0))
    return row.to(k.dtype)[:, None, None, :]


def attend(q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None = None) -> Tensor:
    """Compute ordinary attention, with an optional mask on the first token's row.

    Args:
        q: ``(B, heads, P+N, d)`` queries.
        k: ``(B, heads, P+N, d)`` keys.
        v: ``(B, heads, P+N, d)`` values.
        seen: ``(B, N)`` bool, the patches that the first token sees in every head. Other rows
            are unchanged.

    Returns:
        ``(B, heads, P+N, d)``.
    """
    y = F.scaled_dot_product_attention(q, k, v)
    if seen is not None:
        y[:, :, :1] = F.scaled_dot_product_attention(q[:, :, :1], k, v, attn_mask=mask_row(seen, k))
    return y


def attention_map(
    q: Tensor, k: Tensor, v: Tensor | None = None, lead: int = 1
) -> tuple[Tensor, Tensor | None]:
    """Compute softmax attention averaged over heads, and its output if values are given.

    Works head by head, on as many rows as fit in the processor's cache, and reuses
    its buffers. The maps are float32 for any input dtype.

    Args:
        q: ``(B, heads, P+N, d)`` queries.
        k: ``(B, heads, P+N, d)`` keys.
        v: ``(B, heads, P+N, d)`` values, or None to compute only the map.
        lead: P, the number of tokens in front of the patches.

    Returns:
        The mean map between patches ``(B, N, N)`` and the attention output
        ``(B, heads, P+N, d)``, None without ``v``. Rows of the map do not sum to
        1 if ``P > 0``, because the columns of the tokens in front are left out.
    """
    batch, heads, tokens, dim = q.shape
    scale = dim**-0.5
    # Rows that begin at cache lines: their products are up to twice as fast as those of an odd
    # number of tokens, and so are those of keys that lie side by side.
    columns = padded_length(tokens)
    keys = _padded(k, columns)
    values = None if v is None else _padded(v, columns)
    rows = min(tokens, max(1, MAP_ENTRIES // columns))
    total = torch.empty(batch, tokens, columns, dtype=torch.float32, device=q.device)
    weights = torch.empty(batch, rows, columns, dtype=torch.float32, device=q.device)
    logits = weights if q.dtype == torch.float32 else torch.empty_like(weights, dtype=q.dtype)
    y = None if v is None else torch.empty_like(q, memory_format=torch.contiguous_format)
    for start in range(0, tokens, rows):
        here = slice(start, start + rows)
        mean = total[:, here]
        count = mean.shape[1]
        for head in range(heads):
            some = logits[:, :count]
            torch.bmm(q[:, head, here] * scale, keys[:, head].transpose(1, 2), out=some)
            some[..., tokens:] = -torch.inf  # which get no weight
            into = mean if head == 0 else weights[:, :count]
            torch.softmax(some, -1, dtype=torch.float32, out=into)
            if y is not None and values is not None:
                narrow = into if q.dtype == into.dtype else some.copy_(into)
                torch.bmm(narrow, values[:, head], out=y[:, head, here])
            if head:
                mean += into
    return total[:, lead:, lead:tokens].div_(heads), y


def padded_length(tokens: int) -> int:
    """Length of the rows of a map in memory: whole cache lines."""
    return -(-tokens // LINE) * LINE


def _padded(x: Tensor, length: int) -> Tensor:
    """Copy of ``(B, heads, n, d)`` with zeros behind it, each head by itself."""
    padded = x.new_empty(*x.shape[:2], length, x.shape[3])
    padded[:, :, : x.shape[2]] = x
    padded[:, :, x.shape[2] :] = 0
    return padded
