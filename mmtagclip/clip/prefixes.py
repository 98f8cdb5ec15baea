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

from .block import QKV, Block
from .towers.open_clip_vit import OpenCLIPBlock

# Every product is of this many rows, the last filled up with some of its own, and STEP nodes of a
# path attend to a multiple of STEP together. Products of one shape have the same bits in each row,
# whatever the other rows hold.
ROWS, STEP = 256, 4
# Paths whose keys and values are copied together.
PATHS = 512


@dataclass(frozen=True)
class Stage:
    """The nodes of a tree whose depths lie between two multiples of :data:`STEP`.

    Attributes:
        paths: ``(P, STEP * s)`` int64, the nodes of each path from the root on; behind a path's end
            anything. The last :data:`STEP` are of this stage.
        places: ``(m,)`` int64, where each node of the stage is found in the flat last
            :data:`STEP` columns of ``paths``.
    """

    paths: np.ndarray
    places: np.ndarray


@dataclass(frozen=True)
class PrefixTree:
    """The beginnings of prompts.

    Attributes:
        tokens: ``(M,)`` int64, the last token of each beginning; short ones come first.
        depths: ``(M,)`` int64, the number of tokens before it.
        ends: ``(n,)`` int64, the node of each whole prompt.
        stages: From the root on; together they have all nodes in their order.
    """

    tokens: np.ndarray
    depths: np.ndarray
    ends: np.ndarray
    stages: tuple[Stage, ...]

    @classmethod
    def of(cls, prompts: np.ndarray, lengths: np.ndarray) -> 'PrefixTree':
        """The tree of prompts.

        Args:
            prompts: ``(n, L)`` int64 token ids.
            lengths: ``(n,)`` how many tokens of each count, at least 1.
        """
        longest, size = int(lengths.max()), int(prompts.max()) + 1
        here = np.zeros(len(prompts), dtype=np.int64)  # the node that each prompt has come to
        trail = np.zeros((len(prompts), -(-longest // STEP) * STEP), dtype=np.int64)
        tokens: list[np.ndarray] = []
        count, firsts = 0, [0]
        for depth in range(longest):
            there = np.flatnonzero(lengths > depth)
            keys = here[there] * size + prompts[there, depth]
            _, where, inverse = np.unique(keys, return_index=True, return_inverse=True)
            here[there] = trail[there, depth] = count + inverse
            tokens.append(prompts[there[where], depth])
            count += len(where)
            firsts.append(count)
        stages = []
        for start in range(0, longest, STEP):
            stop = min(start + STEP, longest)
            there = np.flatnonzero(lengths > start)
            # Prompts that are one up to the end of this stage have one path.
            last = trail[there, np.minimum(lengths[there], stop) - 1]
            there = there[np.unique(last, return_index=True)[1]]
            own = np.arange(start, start + STEP) < lengths[there, None]
            places = np.empty(firsts[stop] - firsts[start], dtype=np.int64)
            nodes = trail[there, start : start + STEP][own] - firsts[start]
            places[nodes] = np.flatnonzero(own)
            stages.append(Stage(trail[there, : start + STEP], places))
        depths = np.repeat(np.arange(longest), np.diff(firsts))
        return cls(np.concatenate(tokens), depths, here, tuple(stages))


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
    rows = _filled(np.arange(len(tree.tokens)))
    tokens, depths = (torch.from_numpy(one[rows]).to(device) for one in (tree.tokens, tree.depths))
    stages = [
        [torch.from_numpy(one).to(device) for one in (stage.paths, stage.places)]
        for stage in tree.stages
    ]
    ends = torch.from_numpy(_filled(tree.ends)).to(device)
    x = text.token_embedding(tokens) + text.positional_embedding[depths]
    for number, block in enumerate(blocks, 1):
        y = _attend(*_query_key_value(block, x), stages)
        if number == len(blocks):  # only the ends are wanted from here on
            x, y = x[ends], y[ends]
        parts = zip(x.split(ROWS), y.split(ROWS), strict=True)
        x = torch.cat([_after(block, here, attended) for here, attended in parts])
    return x[: len(tree.ends)]


def _filled(rows: np.ndarray) -> np.ndarray:
    """Repeat rows up to a multiple of :data:`ROWS`."""
    return np.resize(rows, -(-len(rows) // ROWS) * ROWS)


def _query_key_value(block: Block, x: Tensor) -> QKV:
    """Queries, keys and values ``(M, heads, d)`` of all nodes."""
    parts = [block.query_key_value(part[None]) for part in x.split(ROWS)]
    q, k, v = zip(*parts, strict=True)
    return _join(q), _join(k), _join(v)


def _join(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([one[0].transpose(0, 1) for one in parts])


def _attend(q: Tensor, k: Tensor, v: Tensor, stages: Sequence[Sequence[Tensor]]) -> Tensor:
    """What each node ``(M, heads, d)`` gets from the nodes of its path."""
    y = torch.zeros_like(q)
    first = 0
    for paths, places in stages:
        length = paths.shape[1]
        seen = torch.ones(STEP, length, dtype=torch.bool, device=q.device).tril(length - STEP)
        found = [
            F.scaled_dot_product_attention(
                _rows(q, some[:, -STEP:]), _rows(k, some), _rows(v, some), attn_mask=seen
            ).transpose(1, 2)
            for some in paths.split(PATHS)
        ]
        y[first : first + len(places)] = torch.cat(found).flatten(0, 1).index_select(0, places)
        first += len(places)
    return y


def _rows(x: Tensor, nodes: Tensor) -> Tensor:
    """Rows ``(P, heads, n, d)`` of some nodes ``(P, n)``; twice as fast as ``x[nodes]``."""
    return x.index_select(0, nodes.flatten()).unflatten(0, nodes.shape).transpose(1, 2)


def _after(block: Block, x: Tensor, y: Tensor) -> Tensor:
    """The block's output for some nodes, from its input and what they attended to."""
    return block.after_attention(x[None] + block.attention_output(y.transpose(0, 1)[None]))[0]
