"""SAM 3, frozen: an image is encoded once, then asked for as many phrases as needed."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from copy import copy, deepcopy
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from ...clip.encoder import DTYPES
from ...clip.feature_cache import FeatureCache
from ...clip.loading import weights_digest
from ...clip.text import forget_words
from ...registry import MODELS
from ...version import __version__
from .sam3_files import load_sam3

# Phrases whose features stay in memory, some 40 kB each.
KEPT = 5000
HALF = (0.5, 0.5, 0.5)  # mean and standard deviation of the images, for values in [0, 1]


class Phrase(NamedTuple):
    """A phrase as SAM 3's decoder reads it.

    Attributes:
        text: The phrase.
        tokens: ``(n, D)`` float32, the features of its n tokens, start and end included.
        embedding: ``(D',)`` float32, the mean of the tokens' embeddings before the text tower,
            without positions.
    """

    text: str
    tokens: Tensor
    embedding: Tensor


class Answer(NamedTuple):
    """What SAM 3 says of one phrase; all are logits, float32.

    Attributes:
        presence: ``()``, whether the concept is in the image.
        logits: ``(Q,)``, of each query, whether it is an instance.
        masks: ``(Q, h, w)``, of each query.
        semantic: ``(h, w)``, where the concept is as a whole.
    """

    presence: Tensor
    logits: Tensor
    masks: Tensor
    semantic: Tensor


@MODELS.register_module()
class Sam3(nn.Module):
    """A frozen SAM 3 of transformers, with text features that are cached on disk.

    The weights are gated: they are downloaded only by users who accepted Meta's licence.

    Args:
        model: ``'hf-hub:facebook/sam3'``, ``'local-dir:PATH'``, the settings of a
            ``Sam3Config``, or a built ``Sam3Model``; see :func:`.sam3_files.load_sam3`.
        checkpoint: A file of weights in place of the repository's.
        dtype: ``'float32'``, ``'bfloat16'`` or ``'float16'``, of all weights but those of the
            text tower.
        max_phrases: Most phrases that the decoder is asked for at once. At full size each takes
            about 0.3 GB in float32; the published programs ask for 32.
        text_cache: Folder of cached text features; the user's cache directory if None, no cache
            if False.
        download: Whether weights that are not on this machine may be downloaded.

    Attributes:
        side: Images are squeezed to this many pixels a side.

    Raises:
        FileNotFoundError: The weights are not there, or would have to be downloaded.
        ImportError: transformers is not installed, or older than 5.
        ValueError: The weights are those of another model, or an option is out of range.
    """

    mean = std = HALF
    num_blocks = 0  # whose attention maps could be read

    def __init__(
        self,
        model: str | Mapping[str, Any] | nn.Module = 'hf-hub:facebook/sam3',
        checkpoint: str | Path | None = None,
        dtype: str = 'float32',
        max_phrases: int = 8,
        text_cache: str | Path | bool | None = None,
        download: bool = False,
    ) -> None:
        super().__init__()
        if dtype not in DTYPES:
            raise ValueError(f'dtype must be one of {", ".join(DTYPES)}, not {dtype!r}')
        if max_phrases < 1:
            raise ValueError(f'max_phrases must be at least 1, not {max_phrases}')
        self.model, self._name = load_sam3(model, checkpoint, download)
        self.dtype = DTYPES[dtype]
        # Parameters only: positions are buffers, which narrow numbers can't represent.
        for part in (
            self.model.vision_encoder,
            self.model.detr_encoder,
            self.model.detr_decoder,
            self.model.dot_product_scoring,
            self.model.mask_decoder,
        ):
            for parameter in part.parameters():
                parameter.data = parameter.data.to(self.dtype)
        self._max_phrases = max_phrases
        backbone = self.model.config.vision_config.backbone_config
        self.side, self.patch_size = int(backbone.image_size), int(backbone.patch_size)
        self._most_tokens = int(self.model.config.text_config.max_position_embeddings)
        self._cache = FeatureCache(text_cache)
        self._text_key: str | None = None
        self._known: dict[str, Phrase] = {}
        self._towers: dict[tuple[int, torch.device], nn.Module] = {}

    @property
    def name(self) -> str:
        """Where the model comes from, for messages."""
        return self._name

    @property
    def max_phrases(self) -> int:
        """Most phrases that the decoder is asked for at once."""
        return self._max_phrases

    @property
    def text_cache(self) -> Path | None:
        """Folder of cached text features; None for no cache."""
        return self._cache.folder

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.text_projection.weight.device

    # Images

    def encode(self, image: Tensor, side: int | None = None) -> Any:
        """The vision features of one image.

        Args:
            image: ``(3, H, W)``, normalised; squeezed to a square.
            side: Of the square, in pixels, a multiple of the patch size; the model's if None.

        Returns:
            What ``Sam3Model.get_vision_features`` returns, for :meth:`ask` and
            :meth:`presence`.

        Raises:
            ValueError: ``side`` is no multiple of the patch size.
        """
        side = self.side if side is None else side
        if tuple(image.shape[1:]) != (side, side):
            image = F.interpolate(
                image[None], (side, side), mode='bilinear', antialias=True, align_corners=False
            )[0]
        return self._tower(side)(image[None].to(self.dtype))

    def _tower(self, side: int) -> nn.Module:
        """The vision tower for images of a size: the same weights, other positions."""
        tower = self.model.vision_encoder
        if side == self.side:
            return tower
        if side % self.patch_size:
            raise ValueError(f'a side of {side} pixels is no multiple of {self.patch_size}')
        key = side, self.device
        if key not in self._towers:
            shared = {id(parameter): parameter for parameter in tower.parameters()}
            other = deepcopy(tower, shared)
            for layer in other.backbone.layers:
                config = copy(layer.config)
                config.image_size = side
                positions = layer.precompute_positions(config, layer.window_size)
                layer.position_ids = positions.to(self.device)
            self._towers[key] = other
        return self._towers[key]

    # Words

    def phrases(self, words: Sequence[tuple[str, str]]) -> list[Phrase]:
        """Text features of phrases, on the CPU.

        Each phrase is encoded as a separate batch, so its features depend neither on the others
        nor on the cache.

        Args:
            words: For each phrase the name of its class, for messages, and the phrase.

        Raises:
            ValueError: A phrase is too long for the text tower, two classes have phrases that
                are the same to the tokenizer, or a feature is not finite.
        """
        owner: dict[tuple[int, ...], tuple[str, str]] = {}
        for name, text in words:
            ids = self._ids(text, name)
            first, before = owner.setdefault(tuple(ids), (name, text))
            if first != name:
                raise ValueError(
                    f'{before!r} and {text!r} are the same phrase to the tokenizer of SAM 3, so '
                    f'the pixels of {first!r} and {name!r} can not be told apart: leave out one'
                )
            if text not in self._known:
                self._known[text] = Phrase(text, self._tokens(text, ids), self._embedding(ids))
        phrases = [self._known[text] for _, text in words]
        for text in list(self._known)[:-KEPT]:
            del self._known[text]
        forget_words(_tokenizer())
        return phrases

    def embedding(self, text: str) -> Tensor:
        """The mean ``(D',)`` of the embeddings of a text's tokens, see :class:`Phrase`."""
        return self._embedding(self._ids(text, text))

    def project(self, embeddings: Tensor) -> Tensor:
        """Bring embeddings ``(..., D')`` to the width of tokens ``(..., D)``, on the CPU."""
        projection = self.model.text_projection
        return projection(embeddings.to(self.device)).cpu()

    def _ids(self, text: str, name: str) -> list[int]:
        tokenizer = _tokenizer()
        ids = [tokenizer.sot_token_id, *tokenizer.encode(text), tokenizer.eot_token_id]
        if len(ids) > self._most_tokens:
            raise ValueError(
                f'class {name!r} has a phrase of {len(ids)} tokens, but the text tower of SAM 3 '
                f'reads at most {self._most_tokens}: {text!r}'
            )
        return ids

    @torch.no_grad()
    def _embedding(self, ids: Sequence[int]) -> Tensor:
        table = self.model.text_encoder.get_input_embeddings()
        return table(torch.tensor(ids, device=self.device)).mean(dim=0).float().cpu()

    def _tokens(self, text: str, ids: Sequence[int]) -> Tensor:
        if self._cache.folder is None:
            return self._encode_text(text, ids)
        key = self._key(ids)
        width = self.model.text_projection.out_features
        tokens = self._cache.read(key, (len(ids), width))
        if tokens is None or not torch.isfinite(tokens).all():
            tokens = self._encode_text(text, ids)
            self._cache.write(key, text, tokens)
        return tokens

    @torch.no_grad()
    def _encode_text(self, text: str, ids: Sequence[int]) -> Tensor:
        rows = torch.tensor([list(ids)], device=self.device)
        states = self.model.text_encoder(input_ids=rows, attention_mask=torch.ones_like(rows))
        tokens = self.model.text_projection(states.last_hidden_state)[0].float().cpu()
        if not torch.isfinite(tokens).all():
            raise ValueError(
                f'the text features of {text!r} are not finite: the weights of SAM 3 are damaged'
            )
        return tokens

    def _key(self, ids: Sequence[int]) -> str:
        if self._text_key is None:
            parts = nn.ModuleList([self.model.text_encoder, self.model.text_projection])
            settings = self.model.config.text_config.to_json_string()
            self._text_key = f'{weights_digest(parts)} {settings}'
        content = [
            'SAM 3',
            self._text_key,
            list(ids),
            __version__,
            version('transformers'),
            torch.__version__,
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def forget_disk(self) -> None:
        """Stop reading and writing text features on the disk; those in memory stay."""
        self._cache.folder = None

    # Questions

    def ask(self, vision: Any, prompts: Sequence[Tensor]) -> Iterator[Answer]:
        """Ask for phrases, ``max_phrases`` at a time.

        Args:
            vision: Of :meth:`encode`.
            prompts: For each phrase its tokens ``(n, D)``, those of :class:`Phrase` or more.

        Yields:
            One answer per phrase, in order.
        """
        for start in range(0, len(prompts), self._max_phrases):
            tokens, mask = self._batch(prompts[start : start + self._max_phrases])
            out = self.model(
                vision_embeds=_repeated(vision, len(tokens)),
                text_embeds=_Text(tokens),
                attention_mask=mask,
            )
            yield from (
                Answer(*(part.float() for part in parts))
                for parts in zip(
                    out.presence_logits[:, 0],
                    out.pred_logits,
                    out.pred_masks,
                    out.semantic_seg[:, 0],
                    strict=True,
                )
            )

    def presence(self, vision: Any, prompts: Sequence[Tensor]) -> Tensor:
        """Probability ``(K,)`` that each phrase is in the image; the mask head does not run.

        Args:
            vision: Of :meth:`encode`.
            prompts: See :meth:`ask`.
        """
        found = []
        for start in range(0, len(prompts), self._max_phrases):
            tokens, mask = self._batch(prompts[start : start + self._max_phrases])
            level = _repeated(vision, len(tokens))
            encoded = self.model.detr_encoder(
                vision_features=[level.fpn_hidden_states[-2]],  # the model leaves out the last
                text_features=tokens,
                vision_pos_embeds=[level.fpn_position_encoding[-2]],
                text_mask=mask,
            )
            decoded = self.model.detr_decoder(
                vision_features=encoded.last_hidden_state,
                text_features=encoded.text_features,
                vision_pos_encoding=encoded.pos_embeds_flattened,
                text_mask=mask,
                spatial_shapes=encoded.spatial_shapes,
            )
            found.append(decoded.presence_logits[-1][:, 0].float().sigmoid())
        return torch.cat(found)

    def _batch(self, prompts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Tokens ``(b, n, D)`` of prompts, and which ``(b, n)`` of them there are."""
        lengths = torch.tensor([len(one) for one in prompts])
        tokens = pad_sequence(list(prompts), batch_first=True)
        mask = torch.arange(tokens.shape[1]) < lengths[:, None]
        return tokens.to(self.device, self.dtype), mask.to(self.device)


class _Text(NamedTuple):
    """What ``Sam3Model`` reads of its ``text_embeds``."""

    pooler_output: Tensor


def _repeated(vision: Any, count: int) -> Any:
    """Vision features of one image for several phrases: one memory, not copies."""
    return type(vision)(
        fpn_hidden_states=tuple(one.expand(count, -1, -1, -1) for one in vision.fpn_hidden_states),
        fpn_position_encoding=tuple(
            one.expand(count, -1, -1, -1) for one in vision.fpn_position_encoding
        ),
    )


@cache
def _tokenizer() -> SimpleTokenizer:
    """CLIP's tokenizer, which SAM 3 has too."""
    return SimpleTokenizer()
