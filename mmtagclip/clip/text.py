"""Text features of class names, cut at their longest prompt and cached on disk."""

import hashlib
import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from open_clip.transformer import TextTransformer, text_global_pool
from torch import Tensor, nn
from tqdm import tqdm

from ..version import __version__
from .encoder import DenseEncoder
from .feature_cache import FeatureCache
from .loading import architecture_digest, context_length, weights_digest
from .vocabulary import Vocabulary


class TextEncoder:
    """Turns class names into text features, and caches them.

    Each class is encoded as a separate batch (its phrases times the templates).
    So its feature depends neither on the other classes nor on the cache.

    Args:
        encoder: The encoder whose text tower and tokenizer are used.
        templates: Prompt templates, each with one ``{}``.
        cache_dir: Folder of cached features; False turns the cache off. Default:
            :func:`mmtagclip.files.default_cache_dir`. The key of a feature is made of the text
            tower's weights and architecture, tokenizer, phrases, templates and
            versions.
    """

    def __init__(
        self,
        encoder: DenseEncoder,
        templates: Sequence[str],
        cache_dir: str | Path | bool | None = None,
    ) -> None:
        self.clip: Any = encoder.clip
        self.tokenizer = encoder.tokenizer
        self.templates = tuple(templates)
        self.context_length = context_length(self.clip)
        self.dim = encoder.dim
        self._cache = FeatureCache(cache_dir)
        self._tower: str | None = None
        self._open_clip = ''  # its version
        self._known: dict[tuple[str, ...], Tensor] = {}

    @property
    def cache_dir(self) -> Path | None:
        """Folder of cached features; None if there is no cache. Set it to None to leave it."""
        return self._cache.folder

    @cache_dir.setter
    def cache_dir(self, folder: Path | None) -> None:
        self._cache.folder = folder

    def __call__(self, vocabulary: Vocabulary) -> Tensor:
        """Return text features ``(C, D)`` float32 of unit length, on the CPU.

        Raises:
            ValueError: The tokenizer reads two classes as the same, a prompt is
                too long for the text tower (the message names the class), or a
                feature is not finite (damaged weights).
        """
        self.check_doubles(vocabulary)
        missing = []
        for phrases in dict.fromkeys(vocabulary.phrases):
            if phrases not in self._known:
                feature = self._read(phrases)
                if feature is None:
                    missing.append(phrases)
                else:
                    self._known[phrases] = feature
        for phrases in tqdm(
            missing,
            desc='Encoding class names',
            unit='class',
            leave=False,
            disable=None if len(missing) > 1 else True,
        ):
            feature = self.encode_class(phrases)
            self._write(phrases, feature)
            self._known[phrases] = feature
        return torch.stack([self._known[phrases] for phrases in vocabulary.phrases])

    def check_doubles(self, vocabulary: Vocabulary) -> None:
        """Refuse two classes that the tokenizer reads as the same name.

        CLIP's tokenizer ignores case, white space, Unicode forms and HTML entities.
        So ``Bell`` and ``bell`` have the same feature and halve each other's
        probability.

        Raises:
            ValueError: There are two such classes; the message names both.
        """
        names = vocabulary.names
        if len(names) < 2:
            return
        first: dict[tuple[int, ...], str] = {}
        phrases = [phrases[0] for phrases in vocabulary.phrases]
        tokens = self.tokenizer(phrases, context_length=self.context_length)
        for name, row in zip(names, tokens.tolist(), strict=True):
            other = first.setdefault(tuple(row), name)
            if other != name:
                raise ValueError(
                    f'{other!r} and {name!r} are the same name to the tokenizer of this model, '
                    'so each would get half the score: leave one of them out'
                )

    @torch.no_grad()
    def encode_class(self, phrases: Sequence[str]) -> Tensor:
        """Compute a class feature ``(D,)``: the normalised mean of its prompts' unit features."""
        prompts = [
            template.replace('{}', phrase) for phrase in phrases for template in self.templates
        ]
        tokens = self.tokenize(prompts, phrases[0])
        device = next(self.clip.parameters()).device
        features = F.normalize(encode_text(self.clip, tokens.to(device)).float(), dim=-1)
        feature = F.normalize(features.mean(dim=0), dim=-1).cpu()
        if not torch.isfinite(feature).all():
            raise ValueError(
                f'the text feature of class {phrases[0]!r} is not finite: the weights '
                'are damaged or for another model'
            )
        return feature

    def tokenize(self, prompts: Sequence[str], name: str) -> Tensor:
        """Return token ids ``(n, context_length)``.

        Raises:
            ValueError: A prompt is too long; the message names the class.
        """
        limit = self.context_length
        tokens = self.tokenizer(list(prompts), context_length=limit)
        # A tokenizer cuts a prompt silently and puts the end token last. A prompt that was cut
        # has other tokens if one more is allowed, or one more if there is no end token.
        roomy = self.tokenizer(list(prompts), context_length=limit + 1)
        was_cut = (tokens != roomy[:, :limit]).any(dim=1)
        padding = getattr(self.tokenizer, 'padding_without_end', None)
        if padding is not None:
            was_cut |= roomy[:, limit] != padding
        cut = was_cut.nonzero().flatten().tolist()
        if cut:
            raise ValueError(
                f'class {name!r} makes a prompt of more than {limit} tokens, the limit of '
                f'the text tower: {prompts[cut[0]]!r}'
            )
        return tokens

    def _key(self, phrases: Sequence[str]) -> str:
        if self._tower is None:
            text = {
                name: value
                for name, value in self.clip.state_dict().items()
                if not name.startswith('visual.')
            }
            probe = self.tokenizer(
                ['a photo of 2 Zebras, e.g. "ünder" <b>it</b>'], context_length=self.context_length
            ).tolist()
            architecture = architecture_digest(self.clip, without='visual')
            self._tower = f'{weights_digest(text)} {architecture} {probe}'
            self._open_clip = version('open_clip_torch')
        content = [
            self._tower,
            list(phrases),
            list(self.templates),
            __version__,
            self._open_clip,
            torch.__version__,
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def _read(self, phrases: Sequence[str]) -> Tensor | None:
        """A cached feature; None if there is none or the file holds anything else."""
        if self._cache.folder is None:
            return None
        feature = self._cache.read(self._key(phrases), (self.dim,))
        # The digest shows that the file is whole, not who wrote it.
        if feature is None or not abs(float(feature.norm()) - 1) < 1e-3:  # or it is NaN
            return None
        return feature

    def _write(self, phrases: Sequence[str], feature: Tensor) -> None:
        """Store a feature: a whole file under its final name, or none and a warning."""
        if self._cache.folder is not None:
            self._cache.write(self._key(phrases), phrases[0], feature)


def encode_text(clip: Any, tokens: Tensor) -> Tensor:
    """Compute text features ``(n, D)``, not normalised, of token ids ``(n, context_length)``.

    A causal text tower does not use tokens after the one that it reads. So the
    batch is cut at its longest prompt, which changes results only by float
    round-off. Other text towers get all tokens.
    """
    text: Any = getattr(clip, 'text', None)
    if type(clip) is open_clip.CLIP:
        text, mask, pool, end = clip, clip.attn_mask, clip.text_pool_type, clip.text_eos_id
    elif type(text) is TextTransformer and text.cls_emb is None and not text.output_tokens:
        mask, pool, end = text.attn_mask, text.pool_type, text.eos_id
    else:
        return clip.encode_text(tokens)
    if mask is None or pool not in ('argmax', 'eos'):
        return clip.encode_text(tokens)
    ends = tokens.argmax(dim=-1) if pool == 'argmax' else (tokens == end).int().argmax(dim=-1)
    length = int(ends.max()) + 1
    tokens = tokens[:, :length]
    x = text.token_embedding(tokens) + text.positional_embedding[:length]
    x = text.transformer(x, attn_mask=mask[:length, :length])
    x = text_global_pool(text.ln_final(x), tokens, pool, eos_token_id=end)
    projection = text.text_projection
    if projection is None:
        return x
    return projection(x) if isinstance(projection, nn.Linear) else x @ projection
