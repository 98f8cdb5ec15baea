"""Prompts through a causal text tower, each beginning that several share only once.

A token of a causal tower depends only on the tokens before it. The 85 prompts of a class have about
1,000 tokens, but only 300 different beginnings, and those of the templates are the same for all
classes. The beginnings form a tree: each node is a token behind those of its path.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor

from .block import Block
from .towers.open_clip_vit import OpenCLIPBlock

# Every product is of this many rows, the last filled up with some of its own, and every node
# attends to a multiple of STEP tokens. Products of one shape have the same bits in each row,
# whatever the other rows hold.
ROWS, STEP = 256, 8
# Nodes whose paths' keys and values are copied together.
NODES = 1024


@dataclass(frozen=True)
class PrefixTree:
    """The beginnings of prompts.

    Attributes:
        tokens: ``(M,)`` int64, the last token of each beginning.
        depths: ``(M,)`` int64, the number of tokens before it.
        paths: ``(M, T)`` int64, the nodes of each beginning, itself the last; behind it anything.
        ends: ``(n,)`` int64, the node of each whole prompt.
    """

    tokens: np.ndarray
    depths: np.ndarray
    paths: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, prompts: np.ndarray, lengths: np.ndarray) -> 'PrefixTree':
        """The tree of prompts.

        Args:
            prompts: ``(n, L)`` int64 token ids.
            lengths: ``(n,)`` how many tokens of each count, at least 1.
        """
        here = np.full(len(prompts), -1)  # the node that each prompt has come to
        longest, size, count = int(lengths.max()), int(prompts.max()) + 1, 0
        tokens, depths, paths = [], [], []
        width = -(-longest // STEP) * STEP
        before = np.zeros((0, width), dtype=np.int64)  # paths of the last depth
        first = 0  # its first node
        for depth in range(longest):
            there = np.flatnonzero(lengths > depth)
            parents = here[there]
            keys = (parents + 1) * size + prompts[there, depth]
            unique, where, inverse = np.unique(keys, return_index=True, return_inverse=True)
            path = np.zeros((len(unique), width), dtype=np.int64)
            if depth:
                path[:, :depth] = before[parents[where] - first, :depth]
            path[:, depth] = np.arange(count, count + len(unique))
            tokens.append(prompts[there, depth][where])
            depths.append(np.full(len(unique), depth))
            paths.append(path)
            here[there] = count + inverse
            before, first, count = path, count, count + len(unique)
        return cls(np.concatenate(tokens), np.concatenate(depths), np.concatenate(paths), here)


def prefix_blocks(text: Any) -> list[Block] | None:
    """The blocks of an open_clip text tower, if they are of the kind that this module runs."""
    blocks = getattr(text.transformer, 'resblocks', ())
    if not blocks or any(type(one) is not ResidualAttentionBlock for one in blocks):
        return None
    return [OpenCLIPBlock(one) for one in blocks]


@torch.no_grad()
def encode_prefixes(text: Any, blocks: Sequence[Block], prompts: Tensor, lengths: Tensor) -> Tensor:
    """Compute the last token of each prompt behind the last block.

    Args:
        text: The causal text tower.
        blocks: Of :func:`prefix_blocks`.
        prompts: ``(n, L)`` int64 token ids.
        lengths: ``(n,)`` how many tokens of each count.

    Returns:
        ``(n, width)``. Each row's bits depend only on its own prompt.
    """
    device = prompts.device
    tree = PrefixTree.of(prompts.cpu().numpy(), lengths.cpu().numpy())
    tokens, depths = (torch.from_numpy(one).to(device) for one in (tree.tokens, tree.depths))
    paths = torch.from_numpy(tree.paths).to(device)
    x = text.token_embedding(tokens) + text.positional_embedding[depths]
    parts = [
        torch.from_numpy(np.resize(rows, ROWS)).to(device)
        for rows in np.split(np.arange(len(tree.tokens)), range(ROWS, len(tree.tokens), ROWS))
    ]
    lengths = torch.from_numpy(tree.depths // STEP * STEP + STEP)
    for block in blocks:
        q, k, v = _query_key_value(block, x, parts)
        y = torch.empty_like(q)
        for length in lengths.unique().tolist():
            for rows in (lengths == length).nonzero().flatten().to(device).split(NODES):
                path = paths[rows, :length]
                seen = torch.arange(length, device=device) <= depths[rows, None]
                y[rows] = F.scaled_dot_product_attention(
                    q[rows][:, :, None],
                    k[path].transpose(1, 2),
                    v[path].transpose(1, 2),
                    attn_mask=seen[:, None, None],
                )[:, :, 0]
        for rows in parts:
            here = x[rows][None] + block.attention_output(y[rows].transpose(0, 1)[None])
            x[rows] = block.after_attention(here)[0]
    return x[torch.from_numpy(tree.ends).to(device)]


def _query_key_value(block: Block, x: Tensor, parts: Sequence[Tensor]) -> list[Tensor]:
    """Queries, keys and values ``(M, heads, d)`` of all nodes."""
    found: list[Tensor] = []
    for rows in parts:
        some = [one[0].transpose(0, 1) for one in block.query_key_value(x[rows][None])]
        if not found:
            found = [one.new_empty(len(x), *one.shape[1:]) for one in some]
        for whole, one in zip(found, some, strict=True):
            whole[rows] = one
    return found
