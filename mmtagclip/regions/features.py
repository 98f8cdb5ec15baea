"""What other models compute of an image: features of its places, or regions."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from ..clip import DenseEncoder
from ..clip.building import Unfilled
from ..clip.downloads import fetch_features, offline
from ..clip.loading import read_state_dict
from ..clip.towers import resize_positions
from ..registry import MODELS


@dataclass(frozen=True)
class Affinity:
    """The result of an affinity source for a batch of images: features, regions, or both.

    Attributes:
        features: ``(B, C', h', w')`` on the source's own grid.
        regions: ``(B, H, W)`` integers, the region of each pixel: patches of
            different regions do not attend to each other.
    """

    features: Tensor | None = None
    regions: Tensor | None = None


class AffinitySource(nn.Module):
    """Base class of the parts that find which places of an image belong together."""

    def forward(self, pixels: Tensor) -> Affinity:
        """Compute the affinity of images.

        Args:
            pixels: ``(B, 3, H, W)`` RGB in [0, 1].
        """
        raise NotImplementedError


@MODELS.register_module()
class TimmFeatures(AffinitySource):
    """Patch features of a frozen ViT of timm, such as DINO or DINOv2.

    Images can have any size; sides that are no multiples of the ViT's patch size
    are enlarged to the next multiple.

    Args:
        model: timm's name (``'vit_base_patch8_224.dino'``).
        pretrained: Whether the weights are those that timm names.
        checkpoint: File of weights instead, in timm's names.
        kwargs: Further arguments of :func:`timm.create_model`.
        positions: How the positional embedding is resized off the native grid:
            ``'timm'``, as timm does, bicubic to the size, with antialias; or
            ``'bicubic_scale'``, as DINO's released code does, see
            :class:`mmtagclip.clip.DenseEncoder`. Published methods on DINO used
            the latter.
        download: Whether weights that are not on this machine may be downloaded.
        tokens: ``'last'``, the patches after the last norm; or of a plain ViT ``'q+k'``, the sum
            of the last block's queries and keys (CorrCLIP), or ``'v'``, its values (CLIP-DINOiser).
        fit: What happens to sides that are no multiples of the patch size: ``'up'``, bicubic to
            the next multiple; or ``'nearest'``, bilinear to the nearest (CorrCLIP, whole images).

    Raises:
        FileNotFoundError: The weights would have to be downloaded.
        ValueError: Neither or both of ``pretrained`` and ``checkpoint`` are given,
            the weights are of another architecture, the model is not a plain
            ViT, or an option is unknown.
    """

    vit: Any
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: str,
        pretrained: bool = False,
        checkpoint: str | Path | None = None,
        kwargs: Mapping[str, Any] | None = None,
        positions: str = 'timm',
        download: bool = False,
        tokens: str = 'last',
        fit: str = 'up',
    ) -> None:
        super().__init__()
        for key, value, known in (
            ('positions', positions, ('timm', 'bicubic_scale')),
            ('tokens', tokens, ('last', 'q+k', 'v')),
            ('fit', fit, ('up', 'nearest')),
        ):
            if value not in known:
                raise ValueError(f'{key} must be {" or ".join(known)}, not {value!r}')
        if pretrained == (checkpoint is not None):
            raise ValueError(
                f'set either pretrained=True or checkpoint (a file) for the weights of {model!r}'
            )
        if pretrained:
            fetch_features(model, download)
        try:
            # timm's own weights are left to timm, which may not have all of them.
            with (
                offline(f'the weights of {model} (timm)', download or not pretrained),
                nullcontext() if pretrained else Unfilled(),
            ):
                self.vit = timm.create_model(
                    model,
                    pretrained=pretrained,
                    num_classes=0,
                    dynamic_img_size=True,
                    **(kwargs or {}),
                )
        except TypeError as error:
            raise ValueError(
                f'{model!r} is not a ViT that takes images of any size: {error}'
            ) from None
        if positions != 'timm' and (
            type(self.vit) is not VisionTransformer or self.vit.pos_embed is None
        ):
            raise ValueError(
                f'positions={positions!r} needs a ViT with a learnt positional embedding, which '
                f"{model!r} is not: use positions='timm'"
            )
        if tokens != 'last' and type(self.vit) is not VisionTransformer:
            raise ValueError(
                f"tokens={tokens!r} needs a plain ViT, which {model!r} is not: use tokens='last'"
            )
        self.positions, self.tokens, self.fit = positions, tokens, fit
        if checkpoint is not None:
            state, _ = read_state_dict(checkpoint)
            try:
                self.vit.load_state_dict(state)
            except RuntimeError as error:
                raise ValueError(
                    f'{checkpoint} holds weights of another architecture than {model!r}: {error}'
                ) from None
        self.vit.eval().requires_grad_(False)
        self.name = model
        normalisation: dict[str, Any] = self.vit.pretrained_cfg
        for key in ('mean', 'std'):
            self.register_buffer(
                key, torch.tensor(normalisation[key]).view(3, 1, 1), persistent=False
            )

    def extra_repr(self) -> str:
        """The model's name and the options that are not the default."""
        options = (self.positions, 'timm'), (self.tokens, 'last'), (self.fit, 'up')
        return ', '.join([self.name, *(one for one, default in options if one != default)])

    def forward(self, pixels: Tensor) -> Affinity:
        """Features of the patches."""
        patch_height, patch_width = self.vit.patch_embed.patch_size
        sides = zip(pixels.shape[2:], (patch_height, patch_width), strict=True)
        if self.fit == 'up':
            rows, columns = (-(-side // patch) for side, patch in sides)
        else:
            rows, columns = (max(round(side / patch), 1) for side, patch in sides)
        grid = (rows, columns)
        size = (rows * patch_height, columns * patch_width)
        if size != tuple(pixels.shape[2:]):
            mode = 'bicubic' if self.fit == 'up' else 'bilinear'
            pixels = F.interpolate(pixels, size=size, mode=mode, align_corners=False)
        tokens = self._tokens((pixels.float() - self.mean) / self.std)
        patches = tokens[:, self.vit.num_prefix_tokens :]
        return Affinity(patches.transpose(1, 2).unflatten(2, grid))

    def _tokens(self, images: Tensor) -> Tensor:
        """All tokens ``(B, P+N, C')`` of normalised images."""
        vit = self.vit
        if self.tokens == 'last' and self.positions == 'timm':
            return vit.forward_features(images)
        x = vit.norm_pre(self._embed(images))
        if self.tokens == 'last':
            return vit.norm(vit.blocks(x))
        last = vit.blocks[-1]
        q, k, v = last.attn.qkv(last.norm1(vit.blocks[:-1](x))).chunk(3, dim=-1)
        return v if self.tokens == 'v' else q + k

    def _embed(self, images: Tensor) -> Tensor:
        """Tokens ``(B, P+N, C')`` with their positions."""
        vit = self.vit
        x = vit.patch_embed(images)
        if self.positions == 'timm':
            return vit._pos_embed(x)
        lead = 0 if vit.no_embed_class else vit.num_prefix_tokens
        first, square = vit.pos_embed[:, :lead], vit.pos_embed[:, lead:]
        square = square.unflatten(1, vit.patch_embed.grid_size).permute(0, 3, 1, 2)
        square = resize_positions(square, (x.shape[1], x.shape[2]), self.positions)
        positions = torch.cat([first, square.flatten(2).transpose(1, 2)], dim=1)
        x = x.flatten(1, 2)
        extra = [one for one in (vit.cls_token, vit.reg_token) if one is not None]
        extra = [one.expand(len(x), -1, -1) for one in extra]
        if vit.no_embed_class:
            return torch.cat([*extra, x + positions], dim=1)
        return torch.cat([*extra, x], dim=1) + positions


@MODELS.register_module()
class EncoderFeatures(AffinitySource):
    """Patches of a CLIP, for use without another model.

    Images can have any size; sides that are no multiples of the patch size are enlarged to the
    next multiple, bicubic.

    Args:
        encoder: Config of the :class:`~mmtagclip.models.CLIPEncoder`, whose last block makes the
            patches.
    """

    def __init__(self, encoder: ConfigDict | dict | DenseEncoder) -> None:
        super().__init__()
        self.encoder: DenseEncoder = (
            MODELS.build(encoder) if isinstance(encoder, dict) else encoder
        ).eval()

    def extra_repr(self) -> str:
        """What determines the features besides the weights."""
        identity = self.encoder.identity
        keys = sorted(identity.keys() - {'name', 'weights'})  # weights are told apart beside it
        return ', '.join(f'{key}={identity[key]}' for key in keys)

    def forward(self, pixels: Tensor) -> Affinity:
        """Features of the patches, of unit length."""
        patch = self.encoder.patch_size
        height, width = (-(-side // patch) * patch for side in pixels.shape[2:])
        if (height, width) != tuple(pixels.shape[2:]):
            pixels = F.interpolate(
                pixels, size=(height, width), mode='bicubic', align_corners=False
            )
        found = self.encoder(self.encoder.normalise(pixels))
        return Affinity(found.patches.transpose(1, 2).unflatten(2, found.grid))
