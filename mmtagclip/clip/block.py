"""The steps of one transformer block of open_clip, run from outside, and its attention maps.

open_clip's blocks neither return attention maps nor accept a mask for one row.
These functions call the block's public submodules in the same order and do not
change them. A block's input and output are float32; matrix products have the
dtype of the weights.
"""

import torch
import torch.nn.functional as F
from open_clip.transformer import QuickGELU, ResidualAttentionBlock
from torch import Tensor

# Entries of an attention map that are processed together: 6 MB, which fit in the cache.
MAP_ENTRIES = 1_500_000


def query_key_value(block: ResidualAttentionBlock, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the queries, keys and values of a block.

    Args:
        block: A block of the image tower.
        x: ``(B, 1+N, width)`` float32 input of the block.

    Returns:
        Three tensors ``(B, heads, 1+N, width/heads)``, unscaled, in the dtype of
        the weights.
    """
    return project_qkv(block, block.ln_1(x))


def project_qkv(block: ResidualAttentionBlock, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Like :func:`query_key_value`, from the output ``(B, 1+N, width)`` of the block's ``ln_1``."""
    attn = block.attn
    qkv = F.linear(y.to(attn.in_proj_weight.dtype), attn.in_proj_weight, attn.in_proj_bias)
    batch, tokens, _ = y.shape
    q, k, v = qkv.view(batch, tokens, 3, attn.num_heads, attn.head_dim).permute(2, 0, 3, 1, 4)
    return q, k, v


def attention_output(block: ResidualAttentionBlock, y: Tensor) -> Tensor:
    """Apply the output projection: ``(B, heads, 1+N, d)`` to ``(B, 1+N, width)`` float32."""
    return block.ls_1(block.attn.out_proj(y.transpose(1, 2).flatten(2)).float())


def feed_forward(block: ResidualAttentionBlock, x: Tensor) -> Tensor:
    """Apply norm and MLP of a block, without the residual: ``(B, 1+N, width)`` float32."""
    mlp = block.mlp
    y = block.ln_2(x).to(mlp.c_fc.weight.dtype)
    if not isinstance(mlp.gelu, QuickGELU) or torch.is_grad_enabled():
        return block.ls_2(mlp(y).float())
    # x·sigmoid(1.702x) is silu(1.702x)/1.702. In place, it needs no extra memory.
    hidden = F.silu(mlp.c_fc(y).mul_(1.702), inplace=True)
    return block.ls_2(mlp.c_proj(hidden.div_(1.702)).float())


def attend(q: Tensor, k: Tensor, v: Tensor, class_mask: Tensor | None = None) -> Tensor:
    """Compute ordinary attention, with an optional mask on the class token's row.

    Args:
        q: ``(B, heads, 1+N, d)`` queries.
        k: ``(B, heads, 1+N, d)`` keys.
        v: ``(B, heads, 1+N, d)`` values.
        class_mask: ``(B, N)``, added in every head to the logits of the class
            token's row over the patches. Other rows are unchanged.

    Returns:
        ``(B, heads, 1+N, d)``.
    """
    y = F.scaled_dot_product_attention(q, k, v)
    if class_mask is not None:
        row = F.pad(class_mask.to(q.dtype), (1, 0))[:, None, None, :]
        y[:, :, :1] = F.scaled_dot_product_attention(q[:, :, :1], k, v, attn_mask=row)
    return y


def ordinary_block(
    block: ResidualAttentionBlock, x: Tensor, class_mask: Tensor | None = None
) -> Tensor:
    """Run a block as CLIP trained it.

    Args:
        block: A block of the image tower.
        x: ``(B, 1+N, width)`` input of the block.
        class_mask: See :func:`attend`.

    Returns:
        ``(B, 1+N, width)``.
    """
    x = x + attention_output(block, attend(*query_key_value(block, x), class_mask))
    return x + feed_forward(block, x)


def last_class_token(
    block: ResidualAttentionBlock, x: Tensor, class_mask: Tensor | None = None
) -> Tensor:
    """Run the last block as CLIP trained it, for the class token alone.

    Plain CLIP discards the last block's patches, so they are not computed.

    Args:
        block: Block L-1.
        x: ``(B, 1+N, width)`` input of the block.
        class_mask: See :func:`attend`.

    Returns:
        ``(B, 1, width)``.
    """
    attn, width = block.attn, x.shape[-1]
    weight, bias = attn.in_proj_weight, attn.in_proj_bias
    y = block.ln_1(x).to(weight.dtype)
    q = F.linear(y[:, :1], weight[:width], bias[:width])
    k, v = F.linear(y, weight[width:], bias[width:]).chunk(2, dim=-1)
    q, k, v = (one.unflatten(-1, (attn.num_heads, -1)).transpose(1, 2) for one in (q, k, v))
    row = None
    if class_mask is not None:
        row = F.pad(class_mask.to(q.dtype), (1, 0))[:, None, None, :]
    x = x[:, :1] + attention_output(block, F.scaled_dot_product_attention(q, k, v, attn_mask=row))
    return x + feed_forward(block, x)


def attention_map(
    q: Tensor,
    k: Tensor,
    v: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Compute softmax attention averaged over heads, and its output if values are given.

    Works head by head, on as many rows as fit in the processor's cache, and reuses
    its buffers. The maps are float32 for any input dtype.

    Args:
        q: ``(B, heads, 1+N, d)`` queries.
        k: ``(B, heads, 1+N, d)`` keys.
        v: ``(B, heads, 1+N, d)`` values, or None to compute only the map.

    Returns:
        The mean map between patches ``(B, N, N)`` and the attention output
        ``(B, heads, 1+N, d)``, None without ``v``. Rows of the map do not sum to
        1, because the class token's column is left out.
    """
    batch, heads, tokens, dim = q.shape
    scale = dim**-0.5
    rows = min(tokens, max(1, MAP_ENTRIES // tokens))
    total = torch.empty(batch, tokens, tokens, dtype=torch.float32, device=q.device)
    weights = torch.empty(batch, rows, tokens, dtype=torch.float32, device=q.device)
    logits = weights if q.dtype == torch.float32 else torch.empty_like(weights, dtype=q.dtype)
    y = None if v is None else torch.empty_like(q, memory_format=torch.contiguous_format)
    for start in range(0, tokens, rows):
        here = slice(start, start + rows)
        mean = total[:, here]
        count = mean.shape[1]
        for head in range(heads):
            torch.bmm(q[:, head, here] * scale, k[:, head].transpose(1, 2), out=logits[:, :count])
            into = mean if head == 0 else weights[:, :count]
            torch.softmax(logits[:, :count], -1, dtype=torch.float32, out=into)
            if y is not None and v is not None:
                narrow = into if q.dtype == into.dtype else logits[:, :count].copy_(into)
                torch.bmm(narrow, v[:, head], out=y[:, head, here])
            if head:
                mean += into
    return total[:, 1:, 1:].div_(heads), y
