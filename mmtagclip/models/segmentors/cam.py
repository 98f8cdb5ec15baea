"""Class activation maps: by gradient (CLIP-ES, CLS-SEG), or by feature surgery (ExCEL)."""

import copy

import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from torch import Tensor, nn

from ...clip import DenseEncoder, DenseFeatures, LastBlock, LastBlockContext
from ...clip.block import QKV, Block, attend
from ...registry import MODELS
from ..maps import min_max, scale_cam


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

    Attributes:
        block_inputs: Blocks, from 0, whose inputs are needed besides that of block L-1.
        all_words: Whether classes that are not tags compete, too.

    Raises:
        ValueError: ``max_tags`` < 1.
    """

    block_inputs: tuple[int, ...] = ()
    all_words = False

    def __init__(self, max_tags: int = 8) -> None:
        super().__init__()
        if max_tags < 1:
            raise ValueError(f'SoftmaxGradCAM needs max_tags >= 1, not {max_tags}')
        self.max_tags = max_tags

    def set_encoder(self, encoder: DenseEncoder) -> None:
        """Check the encoder.

        Raises:
            ValueError: Its tower has no class token.
        """
        if encoder.tower.pooled_by != 'class token':
            raise ValueError(
                f'SoftmaxGradCAM is defined for models with a class token, but {encoder.name} '
                f'pools by {encoder.tower.pooled_by}: set cam to SurgeryCAM, or use a '
                'DirectSegmentor'
            )

    def forward(
        self,
        features: DenseFeatures,
        text: Tensor,
        num_tags: int,
        encoder: DenseEncoder,
    ) -> Tensor:
        """CAMs of one image.

        Args:
            features: Features of the image, with the ``(1, P+N, width)`` input of block L-1.
            text: ``(T + K, D)`` text features, the T tags' first, then the
                background names'.
            num_tags: T, at least 1.
            encoder: The encoder whose last block, norm and projection are used; its tower must
                be pooled by a class token.

        Returns:
            ``(T, N)`` in [0, 1]; a CAM without a positive value is zero.
        """
        tower, grid = encoder.tower, features.input_grid
        block = tower.blocks(grid)[-1]
        if encoder.dtype != torch.float32:
            block = copy.deepcopy(block)
            block.module.float()
        x = features.last_input
        with torch.no_grad():
            activation = block.norm(x)
            q, k, v = block.project_qkv(activation)
            y = attend(q, k, v)
        with torch.enable_grad():
            y.requires_grad_()
            tokens = x + block.attention_output(y)
            tokens = tokens + block.feed_forward(tokens)
            mean = tower.norm(tokens)[:, tower.lead :].mean(dim=1, keepdim=True)
            feature = F.normalize(tower.patches(mean, grid)[:, 0], dim=-1)
            probability = (encoder.logit_scale * feature @ text.T).softmax(dim=-1)[0, :num_tags]
        weights = []
        for rows in torch.eye(num_tags, device=x.device).split(self.max_tags):
            (gradient,) = torch.autograd.grad(
                probability, y, rows, retain_graph=True, is_grads_batched=True
            )
            weights.append(
                _mean_input_gradient(block, (q, k, v), y.detach(), gradient[:, 0])
                if block.qkv_weight is not None and tower.lead == 1
                else _mean_gradient(block, activation, gradient[:, 0], tower.lead)
            )
        cams = (torch.cat(weights) @ activation[0, tower.lead :].T).relu()
        # Twice, as published: once would leave almost nothing where gradients are tiny.
        return scale_cam(scale_cam(cams))


@MODELS.register_module()
class SurgeryCAM(nn.Module):
    """Cosines of the patches less what all words have in common (ExCEL; CLIP Surgery).

    With ``p = softmax(2 * class token @ text)`` over all words and ``u = p / mean(p)``, a word's
    map is ``u * cosine`` less the mean of that over the words, scaled to [0, 1] over all tokens,
    the class token among them. There is no gradient.

    A tower without a class token has its global feature in the place of the class token's.

    Args:
        last_block: Config of the policy of block L-1 that makes the features, such as
            :class:`SVCLastBlock`, as published. Default: the features that the encoder has
            computed for the tags, so no block runs again.
        across_tokens: Whether each of the D numbers of a feature is divided by its norm over all
            tokens, as in the released code, instead of each token by its norm.
        all_words: Whether classes that are not tags compete, too, as published.

    Attributes:
        block_inputs: Blocks, from 0, whose inputs are needed besides that of block L-1.

    Raises:
        ValueError: The policy reads more of an image than the inputs of blocks.
    """

    # Published factor of the cosines with the class token.
    SHARPNESS = 2.0

    def __init__(
        self,
        last_block: ConfigDict | dict | LastBlock | None = None,
        across_tokens: bool = False,
        all_words: bool = True,
    ) -> None:
        super().__init__()
        policy = MODELS.build(last_block) if isinstance(last_block, dict) else last_block
        if policy is not None and (
            policy.needs_pixels
            or policy.needs_regions
            or policy.whole_grid is not None
            or type(policy).prepare is not LastBlock.prepare
        ):
            raise ValueError(
                f'SurgeryCAM runs the last blocks again, but {type(policy).__name__} needs more '
                'than their inputs: set it as the last_block of the encoder'
            )
        self.last_block: LastBlock | None = policy
        self.across_tokens = across_tokens
        self.all_words = all_words
        self.block_inputs: tuple[int, ...] = ()

    def set_encoder(self, encoder: DenseEncoder) -> None:
        """Choose the blocks for the encoder's depth.

        Raises:
            ValueError: The tower does not have the policy's blocks, or compares patches with
                other text features than the whole image.
        """
        if encoder.patch_dim != encoder.dim:
            raise ValueError(
                f'SurgeryCAM compares patches and the whole image with the same text features, '
                f'but those of {encoder.name} differ: use a DirectSegmentor'
            )
        if self.last_block is not None:
            encoder.fit_policy(self.last_block)
            self.block_inputs = self.last_block.block_inputs

    @torch.no_grad()
    def forward(
        self,
        features: DenseFeatures,
        text: Tensor,
        num_tags: int,
        encoder: DenseEncoder,
    ) -> Tensor:
        """Maps of one image.

        Args:
            features: Features of the image, with the inputs of :attr:`block_inputs`.
            text: ``(T + K, D)`` text features, the T tags' first, then those of the words that
                compete.
            num_tags: T, at least 1.
            encoder: The encoder whose blocks, norm and projection are used.

        Returns:
            ``(T, N)`` in [0, 1].
        """
        tokens = self._tokens(features, encoder)
        return surgery_maps(tokens, text, self.across_tokens)[0, 1:, :num_tags].T

    def _tokens(self, features: DenseFeatures, encoder: DenseEncoder) -> Tensor:
        """The whole image and the patches ``(1, 1+N, D)``."""
        if self.last_block is None:
            return torch.cat([features.class_token[:, None], features.patches], dim=1)
        tower, grid, x = encoder.tower, features.input_grid, features.last_input
        blocks = tower.blocks(grid)
        context = LastBlockContext(
            blocks, x, blocks[-1].query_key_value(x), grid, features.inputs, lead=tower.lead
        )
        out, grid = self.last_block(context)
        patches, whole = encoder.read(out, grid, self.last_block)
        if tower.pooled_by != 'class token':
            whole = tower.global_feature(x, features.input_grid, None)
        return torch.cat([whole[:, None], patches], dim=1)


def surgery_maps(tokens: Tensor, text: Tensor, across_tokens: bool = False) -> Tensor:
    """Feature surgery; see :class:`SurgeryCAM`.

    Args:
        tokens: ``(B, 1+N, D)``, the class token first; of any length.
        text: ``(C, D)``, unit length.
        across_tokens: See :class:`SurgeryCAM`.

    Returns:
        ``(B, 1+N, C)`` in [0, 1]; a constant map is 1 throughout.
    """
    cosines = F.normalize(tokens, dim=1 if across_tokens else 2) @ text.T
    probability = (SurgeryCAM.SHARPNESS * cosines[:, :1]).softmax(dim=-1)
    weighted = cosines * (probability / probability.mean(dim=-1, keepdim=True))
    return min_max(weighted - weighted.mean(dim=-1, keepdim=True), dim=1)


def _mean_gradient(block: Block, activation: Tensor, gradient: Tensor, lead: int) -> Tensor:
    """The same as :func:`_mean_input_gradient` by autograd, for any block.

    Args:
        block: The block.
        activation: ``(1, P+N, width)``, the output of its norm.
        gradient: ``(T, heads, P+N, d)`` at the attention's output.
        lead: P.

    Returns:
        ``(T, width)``.
    """
    with torch.enable_grad():
        activation = activation.detach().requires_grad_()
        out = attend(*block.project_qkv(activation))[0]
    means = []
    for one in gradient:
        (at_input,) = torch.autograd.grad(out, activation, one, retain_graph=True)
        means.append(at_input[0, lead:].mean(dim=0))
    return torch.stack(means)


def _mean_input_gradient(block: Block, qkv: QKV, out: Tensor, gradient: Tensor) -> Tensor:
    """Mean over patches of the gradient at the norm's output, from that at attention's output.

    The projection to queries, keys and values is linear, so the mean over
    patches is taken before it is gone through backwards; and of attention
    itself only that mean is needed, which takes one product with its map
    instead of a whole backward pass per tag.

    Args:
        block: The block, whose projection is one matrix without rotary positions.
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
    assert block.qkv_weight is not None
    return means @ block.qkv_weight
