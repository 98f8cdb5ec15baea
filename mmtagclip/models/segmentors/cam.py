"""Class activation maps from the gradient of softmax scores (CLIP-ES, CLS-SEG)."""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...clip import DenseEncoder
from ...clip.block import attend, attention_output, feed_forward, project_qkv
from ...registry import MODELS
from ..maps import scale_cam


@MODELS.register_module()
class SoftmaxGradCAM(nn.Module):
    """Gradient CAM of each tag's probability among the tags and background names.

    The image feature is the mean of the patch tokens after an ordinary last
    block; the activation is the output of that block's ``ln_1``; a channel
    weighs as much as the mean gradient of the tag's probability over its
    patches. Autograd runs through the last block alone, for all tags at once.
    Computed in float32 whatever the encoder's dtype.

    Args:
        max_tags: Most tags whose gradients are held at once; bounds the memory.

    Raises:
        ValueError: ``max_tags`` < 1.
    """

    def __init__(self, max_tags: int = 8) -> None:
        super().__init__()
        if max_tags < 1:
            raise ValueError(f'SoftmaxGradCAM needs max_tags >= 1, not {max_tags}')
        self.max_tags = max_tags

    def forward(
        self, last_input: Tensor, text: Tensor, num_tags: int, encoder: DenseEncoder
    ) -> Tensor:
        """CAMs of one image.

        Args:
            last_input: ``(1, 1+N, width)`` float32 input of block L-1.
            text: ``(T + K, D)`` text features, the T tags' first, then the
                background names'.
            num_tags: T, at least 1.
            encoder: The encoder whose last block, norm and projection are used.

        Returns:
            ``(T, N)`` in [0, 1]; a CAM without a positive value is zero.
        """
        block = encoder.visual.transformer.resblocks[-1]
        ln_post, proj = encoder.visual.ln_post, encoder.visual.proj
        if encoder.dtype != torch.float32:
            block = copy.deepcopy(block).float()
        x = last_input
        with torch.no_grad():
            activation = block.ln_1(x)
            q, k, v = project_qkv(block, activation)
            y = attend(q, k, v)
        with torch.enable_grad():
            y.requires_grad_()
            tokens = x + attention_output(block, y)
            tokens = tokens + feed_forward(block, tokens)
            feature = F.normalize(ln_post(tokens)[:, 1:].mean(dim=1) @ proj, dim=-1)
            probability = (encoder.logit_scale * feature @ text.T).softmax(dim=-1)[0, :num_tags]
        weights = []
        for rows in torch.eye(num_tags, device=x.device).split(self.max_tags):
            (gradient,) = torch.autograd.grad(
                probability, y, rows, retain_graph=True, is_grads_batched=True
            )
            weights.append(_mean_input_gradient(block, (q, k, v), y.detach(), gradient[:, 0]))
        cams = (torch.cat(weights) @ activation[0, 1:].T).relu()
        # Twice, as published: once would leave almost nothing where gradients are tiny.
        return scale_cam(scale_cam(cams))


def _mean_input_gradient(
    block: Any, qkv: tuple[Tensor, Tensor, Tensor], out: Tensor, gradient: Tensor
) -> Tensor:
    """Mean over patches of the gradient at ``ln_1``'s output, from that at attention's output.

    The projection to queries, keys and values is linear, so the mean over
    patches is taken before it is gone through backwards; and of attention
    itself only that mean is needed, which takes one product with its map
    instead of a whole backward pass per tag.

    Args:
        block: The block.
        qkv: ``(1, heads, 1+N, d)`` each.
        out: ``(1, heads, 1+N, d)`` the attention's output.
        gradient: ``(T, heads, 1+N, d)`` with respect to it.

    Returns:
        ``(T, width)``.
    """
    sums: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
    for q, k, v, y, g in zip(*(one[0] for one in qkv), out[0], gradient.unbind(1), strict=True):
        scale = q.shape[-1] ** -0.5
        attention = (scale * q @ k.T).softmax(dim=-1)
        # The gradient at the logits is attention[i, j] * (g[i] @ v[j] - inner[i]); each of its
        # rows sums to zero, so its sum over the patches is less its entry at the class token.
        inner = (g * y).sum(dim=-1)
        both = torch.cat([g, inner[..., None]], dim=-1)[:, 1:]
        spread = attention[1:].T @ both
        columns = (spread[..., :-1] * v).sum(dim=-1) - spread[..., -1]
        at_class_token = attention[:, 0] * (g @ v[0] - inner)
        sums[0].append(scale * columns @ k)
        sums[1].append(-scale * at_class_token @ q)
        sums[2].append((1 - attention[:, 0]) @ g)
    means = torch.cat([one for part in sums for one in part], dim=1) / (out.shape[2] - 1)
    return means @ block.attn.in_proj_weight
