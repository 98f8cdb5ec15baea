"""Models that are not in open_clip, loaded from the files of their publishers: TIPSv2, dino.txt.

One entry of :data:`PUBLISHED` describes a model. Its files are read as data, and nothing is
downloaded.
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.constants import IMAGENET_MEAN, IMAGENET_STD
from open_clip.transformer import LayerNorm, TextTransformer, Transformer
from timm.models.eva import checkpoint_filter_fn as eva_names
from timm.models.vision_transformer import checkpoint_filter_fn as vit_names
from torch import Tensor, nn

from ..extras import require
from ..files import user_path
from .towers.dinotxt import DINOTxtVisual
from .towers.tips import TIPSVisual

SENTENCEPIECE = 'tokenizer.model'
State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Published:
    """A model outside of open_clip.

    Attributes:
        build: Makes the model, with random weights.
        convert: Turns the state dict of the publisher's files, and the path of these, into the
            model's, by its names.
        files: Their names and where they are, for messages.
        mean, std: Normalisation of the images that the model was trained with.
        sentencepiece: Whether the text tower has a SentencePiece tokenizer in a file; otherwise
            CLIP's.
    """

    build: Callable[[], open_clip.CustomTextCLIP]
    convert: Callable[[State, Any, Path], dict[str, Tensor]]
    files: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    sentencepiece: bool


class TIPSText(nn.Module):
    """The text tower of TIPS: its words attend to each other, and their mean is the feature.

    Args:
        width: Width, and size of the feature.
        heads: Number of heads.
        layers: Number of blocks.
        mlp_width: Width of the MLPs.
        vocab_size: Number of tokens.
        context_length: Most tokens of a text.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        layers: int,
        mlp_width: int,
        vocab_size: int = 32000,
        context_length: int = 64,
    ) -> None:
        super().__init__()
        self.width, self.heads = width, heads
        self.vocab_size, self.context_length = vocab_size, context_length
        self.token_embedding = nn.Embedding(vocab_size, width)
        # Half a unit more, because the library rounds the product down.
        ratio = (mlp_width + 0.5) / width
        self.transformer = Transformer(width, layers, heads, ratio, act_layer=nn.ReLU)
        self.ln_final = LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Compute features ``(n, width)`` of token ids ``(n, length)``, each padded with 0.

        What is padding in all texts is left out, because no word attends to it.
        """
        words = tokens != 0
        length = int(words.sum(dim=1).max())
        tokens, words = tokens[:, :length], words[:, :length]
        x = self.token_embedding(tokens) * self.width**0.5 + self.positions(length).to(
            tokens.device
        )
        mask = torch.zeros(words.shape, device=x.device).masked_fill(~words, -torch.inf)
        mask = mask[:, None, None].expand(-1, self.heads, length, -1).flatten(0, 1)
        x = self.ln_final(self.transformer(x, attn_mask=mask)) * words[..., None]
        return x.sum(dim=1) / words.sum(dim=1, keepdim=True)

    def positions(self, length: int) -> Tensor:
        """Sinusoids ``(length, width)`` of geometric wavelengths: sines, then cosines."""
        half = self.width // 2
        rates = torch.exp(torch.arange(half) * -(math.log(10000) / max(1, half - 1)))
        angles = torch.arange(length)[:, None] * rates
        return torch.cat([angles.sin(), angles.cos()], dim=1)


class SentencePieceTokenizer:
    """TIPS's tokenizer: lower case, no start or end token, padded with 0.

    Args:
        path: The file ``tokenizer.model``, or its folder.
        vocab_size: Number of tokens that it must have.
        context_length: Number of tokens that texts are cut or padded to.

    Attributes:
        padding_without_end: The padding; such a tokenizer has no end token, which would tell a
            text that was cut from others.

    Raises:
        FileNotFoundError: There is no such file.
        ImportError: sentencepiece is not installed.
        ValueError: The file is damaged, or has another number of tokens.
    """

    padding_without_end = 0

    def __init__(self, path: str | Path, vocab_size: int, context_length: int) -> None:
        require('sentencepiece', 'text', "this model's tokenizer")
        from sentencepiece import SentencePieceProcessor

        path = user_path(path)
        path = path / SENTENCEPIECE if path.is_dir() else path
        if not path.is_file():
            raise FileNotFoundError(
                f'no tokenizer at {path}: put the {SENTENCEPIECE} of the publisher there, or pass '
                'its path as tokenizer='
            )
        try:
            self._processor = SentencePieceProcessor(model_proto=path.read_bytes())
        except RuntimeError as error:
            raise ValueError(f'{path} is not a tokenizer of SentencePiece: {error}') from None
        if len(self._processor) != vocab_size:
            raise ValueError(
                f'{path} has {len(self._processor)} tokens, but the text tower has {vocab_size}: '
                'it is the tokenizer of another model'
            )
        self.context_length = context_length

    def __call__(self, texts: str | Sequence[str], context_length: int | None = None) -> Tensor:
        """Return token ids ``(n, context_length)``, long texts cut, short ones padded."""
        texts = [texts] if isinstance(texts, str) else list(texts)
        length = context_length or self.context_length
        tokens = torch.zeros(len(texts), length, dtype=torch.long)
        for row, text in zip(tokens, texts, strict=True):
            ids = self._processor.encode(text.lower())[:length]
            row[: len(ids)] = torch.tensor(ids, dtype=torch.long)
        return tokens


def put_together(visual: nn.Module, text: Any) -> open_clip.CustomTextCLIP:
    """Make one model of two towers, as open_clip does of its own."""
    vision = {'image_size': 1, 'patch_size': 1, 'width': 1, 'layers': 1, 'head_width': 1}
    smallest = {'context_length': 1, 'vocab_size': 1, 'width': 1, 'heads': 1, 'layers': 1}
    clip: Any = open_clip.CustomTextCLIP(1, vision, smallest)  # type: ignore[arg-type]
    clip.visual, clip.text = visual, text
    clip.context_length, clip.vocab_size = text.context_length, text.vocab_size
    return clip


def build_tips(name: str, width: int, heads: int, layers: int, mlp_width: int) -> Any:
    """Make a TIPS model.

    Args:
        name: timm's name of the image tower.
        width: Width of both towers.
        heads: Number of heads of the text tower.
        layers: Number of its blocks.
        mlp_width: Width of its MLPs.
    """
    return put_together(TIPSVisual(name), TIPSText(width, heads, layers, mlp_width))


def convert_tips(state: State, clip: Any, path: Path) -> dict[str, Tensor]:
    """Turn the names of TIPS's two ``.npz``, or of its ``.safetensors``, into the model's."""
    vision: dict[str, Tensor] = {}
    text: dict[str, Tensor] = {}
    rest = dict(state)
    temperature = rest.pop('temperature', None)
    for key, value in rest.items():
        name = re.sub('^(vision|text)_encoder[.]', '', key)
        is_text = name.startswith(('token_embedding.', 'transformer.', 'ln_final.'))
        (text if is_text else vision)[name] = value
    _check_halves(vision, text, path, 'TIPS')
    if temperature is None:
        temperature = torch.tensor(_temperature(path))
    return {
        'logit_scale': -temperature.float().log().reshape(()),
        **{f'text.{key}': value for key, value in text.items()},
        **{
            f'visual.trunk.{key}': value
            for key, value in vit_names(vision, clip.visual.trunk).items()
        },
    }


def _temperature(path: Path) -> float:
    """The temperature in the ``config.json`` beside the weights."""
    config = (path if path.is_dir() else path.parent) / 'config.json'
    try:
        return float(json.loads(config.read_text(encoding='utf-8'))['temperature'])
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(
            f'{path} does not say the temperature of the scores: put the config.json of the '
            'publisher beside it, which does'
        ) from None


def build_dinotxt() -> Any:
    """Make dino.txt of DINOv3-L/16."""
    text = TextTransformer(width=1280, heads=20, layers=24, output_dim=2048)
    # The size at which its own blocks were trained.
    return put_together(DINOTxtVisual('vit_large_patch16_dinov3_qkvb', img_size=224), text)


# Names of dino.txt's text tower, and open_clip's for the same.
DINOTXT_NAMES = (
    ('^text_model[.]backbone[.]', 'text.'),
    ('^text[.]blocks[.]', 'text.transformer.resblocks.'),
    ('[.]attention_norm[.]', '.ln_1.'),
    ('[.]ffn_norm[.]', '.ln_2.'),
    ('[.]attention[.]qkv[.]', '.attn.in_proj_'),
    ('[.]attention[.]proj[.]', '.attn.out_proj.'),
    ('[.]feed_forward[.]fc1[.]', '.mlp.c_fc.'),
    ('[.]feed_forward[.]fc2[.]', '.mlp.c_proj.'),
    ('^text_model[.]head[.]linear_projection[.]weight$', 'text.text_projection'),
)
# Names of the blocks behind its backbone, and timm's for the same.
DINOTXT_BLOCKS = (
    ('^visual_model[.]head[.]', 'visual.'),
    ('[.]ls([12])[.]gamma$', r'.gamma_\1'),
    ('[.]mlp[.]w1[.]', '.mlp.fc1_g.'),
    ('[.]mlp[.]w2[.]', '.mlp.fc1_x.'),
    ('[.]mlp[.]w3[.]', '.mlp.fc2.'),
)


def convert_dinotxt(state: State, clip: Any, path: Path) -> dict[str, Tensor]:
    """Turn the names of DINOv3's backbone, and of dino.txt's head and text tower, into the model's.

    The text tower is CLIP's, but its queries, keys and values have no bias.
    """
    backbone: dict[str, Tensor] = {}
    found: dict[str, Tensor] = {}
    for key, value in state.items():
        if key.startswith('text_model.'):
            name = _renamed(key, DINOTXT_NAMES)
            found[name] = value.T if name == 'text.text_projection' else value
            if name.endswith('.in_proj_weight'):
                found[name.replace('_weight', '_bias')] = value.new_zeros(len(value))
        elif key.startswith('visual_model.head.'):
            found[_renamed(key, DINOTXT_BLOCKS)] = value
        elif key == 'logit_scale':
            found[key] = value.reshape(())
        else:
            backbone[key.removeprefix('visual_model.backbone.')] = value
    _check_halves(backbone, found, path, 'dino.txt')
    trunk = clip.visual.backbone.trunk
    converted = eva_names(backbone, trunk)
    return {**found, **{f'visual.backbone.trunk.{key}': converted[key] for key in converted}}


def _renamed(name: str, pairs: Sequence[tuple[str, str]]) -> str:
    for old, new in pairs:
        name = re.sub(old, new, name)
    return name


def _check_halves(vision: State, text: State, path: Path, model: str) -> None:
    """Refuse the file of one tower without that of the other."""
    if not vision or not text:
        lacking = 'text' if vision else 'image'
        raise ValueError(
            f'{path} has no weights of the {lacking} tower of {model}: put the files of both '
            'towers into one folder, and give the folder'
        )


def _tips(size: str, name: str, width: int, heads: int, layers: int, mlp_width: int) -> Published:
    return Published(
        build=partial(build_tips, name, width, heads, layers, mlp_width),
        convert=convert_tips,
        files=f'tips_v2_oss_{size}_vision.npz, tips_v2_oss_{size}_text.npz and {SENTENCEPIECE} of '
        f'https://github.com/google-deepmind/tips, or model.safetensors, config.json and '
        f'{SENTENCEPIECE} of https://huggingface.co/google/tipsv2-{size}',
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        sentencepiece=True,
    )


PUBLISHED = {
    'TIPSv2-B-14': _tips('b14', 'vit_base_patch14_reg1_tipsv2', 768, 12, 12, 3072),
    'TIPSv2-L-14': _tips('l14', 'vit_large_patch14_reg1_tipsv2', 1024, 16, 12, 4096),
    'TIPSv2-SO400M-14': _tips('so14', 'vit_so400m_patch14_reg1_tipsv2', 1152, 16, 27, 4304),
    'TIPSv2-g-14': _tips('g14', 'vit_giant_patch14_reg1_tipsv2', 1536, 24, 12, 6144),
    'dinotxt-L-16': Published(
        build=build_dinotxt,
        convert=convert_dinotxt,
        files='dinov3_vitl16_pretrain_lvd1689m-8aa4cbdd.pth and '
        'dinov3_vitl16_dinotxt_vision_head_and_text_encoder-a442d8f5.pth of '
        'https://github.com/facebookresearch/dinov3',
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        sentencepiece=False,
    ),
}
