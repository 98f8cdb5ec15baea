"""The steps of a block that the encoder repeats, as they are or compiled by torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from .block import QKV, Block, attention_map


def query_key_value(block: Block, x: Tensor) -> QKV:
    """See :meth:`Block.query_key_value`."""
    return block.query_key_value(x)


def add_attention(block: Block, x: Tensor, y: Tensor) -> Tensor:
    """What follows the attention ``y`` ``(B, heads, P+N, d)``: the output of the block."""
    return block.after_attention(x + block.attention_output(y))


def ordinary(block: Block, x: Tensor, seen: Tensor | None) -> Tensor:
    """See :meth:`Block.ordinary`."""
    return block.ordinary(x, seen)


def whole_attention_map(
    q: Tensor, k: Tensor, v: Tensor | None, lead: int
) -> tuple[Tensor, Tensor | None]:
    """Compute what :func:`attention_map` does, with a head's whole map at a time.

    A compiler makes one pass of a head's softmax and its sum. Buffers and rows would stop it.
    """
    outputs = []
    total: Tensor | None = None
    for head in range(q.shape[1]):
        logits = (q[:, head] * q.shape[-1] ** -0.5) @ k[:, head].transpose(1, 2)
        weights = torch.softmax(logits, -1, dtype=torch.float32)
        total = weights if total is None else total + weights
        if v is not None:
            outputs.append(weights.to(v.dtype) @ v[:, head])
    assert total is not None
    return total[:, lead:, lead:] / q.shape[1], torch.stack(outputs, 1) if outputs else None


@dataclass(frozen=True)
class Steps:
    """The steps of a block. Each is a function of the block or of its queries, keys and values.

    Attributes:
        query_key_value: See :meth:`Block.query_key_value`.
        attention_map: See :func:`attention_map`.
        add_attention: See :func:`add_attention`.
        ordinary: See :meth:`Block.ordinary`.
    """

    query_key_value: Callable[..., QKV] = query_key_value
    attention_map: Callable[..., tuple[Tensor, Tensor | None]] = attention_map
    add_attention: Callable[..., Tensor] = add_attention
    ordinary: Callable[..., Tensor] = ordinary

    @classmethod
    def compiled(cls, options: Mapping[str, Any]) -> 'Steps':
        """The steps compiled by ``torch.compile``, each for all blocks and all image sizes.

        Args:
            options: Of ``torch.compile``; sizes are dynamic unless it says otherwise.
        """
        steps = cls(attention_map=whole_attention_map)
        options = {'dynamic': True, **options}
        return cls(
            **{one.name: torch.compile(getattr(steps, one.name), **options) for one in fields(cls)}
        )
