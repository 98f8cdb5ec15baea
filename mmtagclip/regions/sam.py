"""Segment Anything: its image encoder by timm, its prompts and masks by segment-anything."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from timm.models.vision_transformer_sam import checkpoint_filter_fn, get_rel_pos
from torch import Tensor, nn

from ..clip.building import Unfilled
from ..clip.downloads import fetch_file
from ..clip.loading import read_state_dict
from ..extras import require
from ..registry import MODELS

SIDE, PATCH = 1024, 16  # of SAM's square input and of its patches, in pixels
# Weights of attention that are held together: 16 MB stay in a CPU's cache, 256 MB keep a GPU busy.
ENTRIES = {'cpu': 2**22, 'other': 2**26}
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
# timm's name of each image encoder, and its width.
MODEL_NAMES = {
    'sam_vit_b': ('samvit_base_patch16', 768),
    'sam_vit_l': ('samvit_large_patch16', 1024),
    'sam_vit_h': ('samvit_huge_patch16', 1280),
}
DECODER = {
    'neck': 256,
    'mask_channels': 16,
    'decoder_depth': 2,
    'decoder_heads': 8,
    'decoder_mlp': 2048,
    'iou_depth': 3,
    'iou_hidden': 256,
}


@dataclass(frozen=True, eq=False)
class SAMImage:
    """An image as SAM's encoder sees it.

    Attributes:
        size: ``(H, W)`` of the image, in pixels.
        input_size: ``(h, w)`` in SAM's input of 1024x1024 pixels, whose rest is padding.
        last_input: ``(1, 64, 64, width)`` input of the encoder's last block.
    """

    size: tuple[int, int]
    input_size: tuple[int, int]
    last_input: Tensor

    @property
    def grid(self) -> tuple[int, int]:
        """``(h', w')``, the patches that lie wholly in the image; of a narrow one, at least 1."""
        height, width = (max(1, side // PATCH) for side in self.input_size)
        return height, width


class ImageEncoder(nn.Module):
    """SAM's image encoder, timm's, in the way in which segment-anything calls it.

    Blocks in which all patches see each other are computed some rows at a time; at once, as in
    timm, these take gigabytes.
    """

    img_size = SIDE

    def __init__(self, vit: Any) -> None:
        super().__init__()
        self.vit = vit

    def forward(self, images: Tensor) -> Tensor:
        """Features ``(B, C, 64, 64)`` of images ``(B, 3, 1024, 1024)``, normalised."""
        return self.finish(self.last_input(images))

    def last_input(self, images: Tensor) -> Tensor:
        """Input ``(B, 64, 64, width)`` of the last block."""
        x = self.vit.patch_embed(images) + self.vit.pos_embed
        for block in self.vit.blocks[:-1]:
            x = self._run(block, x)
        return x

    def finish(self, last_input: Tensor) -> Tensor:
        """The features of what :meth:`last_input` returned."""
        return self.vit.neck(self._run(self.vit.blocks[-1], last_input).permute(0, 3, 1, 2))

    def _run(self, block: Any, x: Tensor) -> Tensor:
        if block.window_size:
            return block(x)
        x = x + block.attn.proj(torch.stack([self._gathered(block, image) for image in x]))
        return x + block.mlp(block.norm2(x))

    @staticmethod
    def _gathered(block: Any, x: Tensor) -> Tensor:
        """What the heads of a block gather, ``(h, w, width)``, of its input ``(h, w, width)``."""
        values, attention = block_attention(block, x, (x.shape[0], x.shape[1]))
        gathered = torch.cat([rows @ values for rows in attention], dim=1)
        return gathered.transpose(0, 1).reshape(x.shape)


@MODELS.register_module()
class SAM(nn.Module):
    """Segment Anything (ICCV 2023), frozen: attention between patches, and masks for prompts.

    Args:
        model: ``'sam_vit_b'``, ``'sam_vit_l'`` or ``'sam_vit_h'``.
        pretrained: ``'sa1b'`` for Meta's own weights.
        checkpoint: File of weights instead, in Meta's names; without ``masks``, timm's file
            of the image encoder is enough.
        masks: Whether masks are made, which needs segment-anything (the extra ``sam``).
        sizes: Other sizes than those of the model: arguments of timm's encoder, and of the
            decoder as in ``DECODER``.
        download: Whether weights that are not on this machine may be downloaded.

    Raises:
        FileNotFoundError: There is no such file, or the weights would have to be downloaded.
        ImportError: segment-anything is not installed.
        ValueError: The model is unknown, neither or both of ``pretrained`` and ``checkpoint`` are
            given, or the weights are those of another model.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: str = 'sam_vit_b',
        pretrained: str | None = None,
        checkpoint: str | Path | None = None,
        masks: bool = True,
        sizes: Mapping[str, Any] | None = None,
        download: bool = False,
    ) -> None:
        super().__init__()
        if model not in MODEL_NAMES:
            raise ValueError(f'model must be one of {", ".join(MODEL_NAMES)}, not {model!r}')
        if pretrained not in (None, 'sa1b') or (pretrained is None) == (checkpoint is None):
            raise ValueError(
                f"set either pretrained='sa1b' or checkpoint (a file) for the weights of {model}"
            )
        if masks:
            require('segment_anything', 'sam', "SAM's decoder of masks")
        path = fetch_file(f'{model} ({pretrained})', download) if pretrained else checkpoint
        assert path is not None
        sizes = dict(sizes or {})
        decoder = {key: sizes.pop(key, default) for key, default in DECODER.items()}
        prompts: Any = None
        with Unfilled():
            vit = timm.create_model(
                MODEL_NAMES[model][0],
                num_classes=0,
                neck_chans=decoder['neck'],
                # timm's own is 1e-5, with which features differ from Meta's in the fourth digit.
                norm_layer=partial(nn.LayerNorm, eps=1e-6),
                **sizes,
            )
            self.image_encoder = ImageEncoder(vit)
            self.prompt_encoder, self.mask_decoder = prompts, prompts
            if masks:
                self.prompt_encoder, self.mask_decoder = _decoder(decoder)
        state, _ = read_state_dict(path)
        self._load(state, model, str(path))
        self.eval().requires_grad_(False)
        self.name = model
        for key, values in (('mean', MEAN), ('std', STD)):
            self.register_buffer(key, torch.tensor(values).view(3, 1, 1), persistent=False)

    def extra_repr(self) -> str:
        """The model's name."""
        return self.name

    def _load(self, state: Mapping[str, Tensor], model: str, path: str) -> None:
        vit = self.image_encoder.vit
        encoder = checkpoint_filter_fn(state, vit)
        positions = encoder.get('pos_embed')
        if positions is None or positions.ndim != 4:
            raise ValueError(f'{path} holds no weights of SAM')
        width = positions.shape[-1]
        if width != vit.embed_dim:
            others = [name for name, (_, one) in MODEL_NAMES.items() if one == width]
            other = f'those of {others[0]}: set model to it' if others else f'{width} wide'
            raise ValueError(f'{path} holds other weights than those of {model}, {other}')
        parts: dict[str, tuple[nn.Module, Mapping[str, Tensor]]] = {
            'the image encoder': (vit, encoder)
        }
        if self.mask_decoder is not None:
            for name in ('prompt_encoder', 'mask_decoder'):
                own = {
                    key.removeprefix(f'{name}.'): value
                    for key, value in state.items()
                    if key.startswith(f'{name}.')
                }
                if not own:
                    raise ValueError(
                        f'{path} holds only the image encoder of {model}: masks need a file with '
                        "its decoder, such as Meta's own"
                    )
                parts[f'its {name}'] = getattr(self, name), own
        for what, (part, weights) in parts.items():
            try:
                part.load_state_dict(weights)
            except RuntimeError as error:
                reason = ' '.join(str(error).split())
                raise ValueError(
                    f'{path} holds weights of another architecture than {model} in {what}: {reason}'
                ) from None

    def encode(self, image: np.ndarray) -> SAMImage:
        """Encode an image up to the input of the last block.

        The image is scaled to a longest side of 1024 pixels, as Meta's code does.

        Args:
            image: ``(H, W, 3)`` uint8 RGB.
        """
        size = (image.shape[0], image.shape[1])
        input_size = scaled(size, SIDE)
        fitted = Image.fromarray(image).resize(input_size[::-1], Image.Resampling.BILINEAR)
        x = torch.from_numpy(np.array(fitted)).to(self.mean.device).permute(2, 0, 1)
        x = (x.float() - self.mean) / self.std
        x = F.pad(x, (0, SIDE - input_size[1], 0, SIDE - input_size[0]))
        return SAMImage(size, input_size, self.image_encoder.last_input(x[None]))

    def features(self, image: SAMImage) -> Tensor:
        """Features ``(1, C, 64, 64)``, which the decoder of masks reads."""
        return self.image_encoder.finish(image.last_input)

    def attention(
        self, image: SAMImage, entries: int | None = None
    ) -> tuple[Tensor, Iterator[Tensor]]:
        """Attention of the last block between the patches of the image, and its values.

        The softmax runs over the padding as well, which is then cut off: rows do not sum to 1.

        Args:
            image: Of :meth:`encode`.
            entries: How many weights are held together, at most, or one row of the grid. By
                default as many as suit the device.

        Returns:
            ``(heads, N, d)`` values, and the attention in parts, of the first ``n`` patches
            ``(heads, n, N)``, and so on; ``N = h' * w'`` of :attr:`SAMImage.grid`.
        """
        block = self.image_encoder.vit.blocks[-1]
        return block_attention(block, image.last_input[0], image.grid, entries)

    def library(self) -> Any:
        """The model as segment-anything knows it, for its predictor and its mask generator.

        Raises:
            ValueError: The model was built without ``masks``.
        """
        if self.mask_decoder is None:
            raise ValueError('this SAM was built without its decoder: set masks=True')
        from segment_anything.modeling import Sam

        sam = Sam(self.image_encoder, self.prompt_encoder, self.mask_decoder, [*MEAN], [*STD])
        return sam.eval().to(self.mean.device)


def _decoder(sizes: Mapping[str, int]) -> tuple[nn.Module, nn.Module]:
    """segment-anything's prompt encoder and mask decoder, with random weights."""
    from segment_anything.modeling import MaskDecoder, PromptEncoder, TwoWayTransformer

    grid = SIDE // PATCH
    prompts = PromptEncoder(
        embed_dim=sizes['neck'],
        image_embedding_size=(grid, grid),
        input_image_size=(SIDE, SIDE),
        mask_in_chans=sizes['mask_channels'],
    )
    masks = MaskDecoder(
        num_multimask_outputs=3,
        transformer=TwoWayTransformer(
            depth=sizes['decoder_depth'],
            embedding_dim=sizes['neck'],
            mlp_dim=sizes['decoder_mlp'],
            num_heads=sizes['decoder_heads'],
        ),
        transformer_dim=sizes['neck'],
        iou_head_depth=sizes['iou_depth'],
        iou_head_hidden_dim=sizes['iou_hidden'],
    )
    return prompts, masks


def scaled(size: tuple[int, int], side: int) -> tuple[int, int]:
    """A size ``(H, W)`` with another longest side, rounded as SAM does."""
    height, width = (int(one * (side / max(size)) + 0.5) for one in size)
    return max(1, height), max(1, width)


def block_attention(
    block: Any, x: Tensor, grid: tuple[int, int], entries: int | None = None
) -> tuple[Tensor, Iterator[Tensor]]:
    """Attention of a block in which all patches see each other; see :meth:`SAM.attention`.

    Args:
        block: Of timm's encoder.
        x: Its input ``(h, w, width)``.
        grid: ``(h', w')``, the patches from the top left between which attention is wanted.
        entries: See there.
    """
    rows, columns = grid
    if entries is None:
        entries = ENTRIES['cpu' if x.device.type == 'cpu' else 'other']
    qkv = block.attn.qkv(block.norm1(x)).unflatten(2, (3, block.attn.num_heads, -1))
    q, k, v = qkv.permute(2, 3, 0, 1, 4)
    q, v = (one[:, :rows, :columns] for one in (q, v))
    return v.flatten(1, 2), _attention_rows(block.attn, q, k, entries)


def _attention_rows(attention: Any, q: Tensor, k: Tensor, entries: int) -> Iterator[Tensor]:
    """Of queries ``(heads, h', w', d)`` and keys ``(heads, h, w, d)``."""
    heads, rows, columns, _ = q.shape
    height, width = k.shape[1:3]
    by_rows = get_rel_pos(height, height, attention.rel_pos_h)[:rows]
    by_columns = get_rel_pos(width, width, attention.rel_pos_w)[:columns]
    k = k.flatten(1, 2).transpose(1, 2) * attention.scale
    step = max(entries // (heads * columns * height * width), 1)
    for first in range(0, rows, step):
        some = q[:, first : first + step]
        logits = (some.flatten(1, 2) @ k).unflatten(2, (height, width))
        logits = logits.unflatten(1, (-1, columns))
        logits += torch.einsum('nhwc,hkc->nhwk', some, by_rows[first : first + step])[..., None]
        logits += torch.einsum('nhwc,wkc->nhwk', some, by_columns)[..., None, :]
        weights = logits.flatten(3).softmax(dim=-1).view_as(logits)
        del logits
        yield weights[..., :rows, :columns].flatten(3).flatten(1, 2)


def neighbours(
    values: Tensor,
    attention: Iterable[Tensor],
    factor: float = 1.2,
    negative: float | None = None,
    highest: float = 0.9,
) -> Iterator[Tensor]:
    """Which patches gather from which, by the attention of a block and the values that it moves.

    In each head, a patch keeps its attention to the patches whose values are more similar to its
    own than a threshold: ``factor`` times its mean similarity, over all heads and patches.

    Args:
        values: ``(heads, N, d)``.
        attention: In parts ``(heads, n, N)``, of all patches in order.
        factor: Factor of the mean similarity; published: 1.2.
        negative: What stands for a negative threshold; itself if None.
        highest: Highest threshold; published: 0.9.

    Yields:
        For each part ``(n, N)`` float32, whose rows sum to 1.
    """
    unit = F.normalize(values.float(), dim=-1)
    # The mean of cosines is the cosine with the mean.
    threshold = factor * (unit @ unit.mean(dim=1)[..., None]).mean(dim=0)
    if negative is not None:
        threshold = threshold.masked_fill(threshold < 0, negative)
    threshold = threshold.clamp(max=highest)
    first = 0
    for weights in attention:
        some = slice(first, first + weights.shape[1])
        kept = unit[:, some] @ unit.transpose(1, 2) > threshold[some]
        # Itself, whatever the last digit of its own cosine is.
        kept.diagonal(first, dim1=1, dim2=2).fill_(True)
        total = (weights.float() * kept).sum(dim=0)
        # Where all of a patch's attention went elsewhere, it keeps itself.
        total.diagonal(first).add_(total.sum(dim=1) == 0)
        yield total / total.sum(dim=1, keepdim=True)
        first = some.stop
