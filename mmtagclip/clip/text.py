"""Text features of class names, encoded in batches of one shape and cached on disk."""

import hashlib
import json
from collections.abc import Iterator, Sequence
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
from . import prefixes
from .encoder import DenseEncoder
from .feature_cache import FeatureCache
from .loading import architecture_digest, context_length, weights_digest
from .prefixes import encode_prefixes, prefix_blocks
from .vocabulary import Vocabulary

# A tower that is not run beginning by beginning (prefixes.py) gets batches of this many prompts,
# whose length is a multiple of STEP tokens, for the same reason as there: one shape of products.
ROWS, STEP = 32, 8
# Its tokens tell tokenizers apart.
PROBE = 'a photo of 2 Zebras, e.g. "ünder" <b>it</b>'
# Prompts that are tokenized, encoded and then written together.
GROUP = 2048
# Classes whose features stay in memory, so that the names of strangers do not fill it.
KEPT = 30_000
# Words whose tokens the tokenizer keeps; without a bound, open_clip's keeps all.
KEPT_WORDS = 100_000


class TextEncoder:
    """Turns class names into text features, and caches them.

    Prompts of all classes are encoded together: their common beginnings only once, or in batches
    where the tower is not causal. All products have one shape, so a class's feature depends
    neither on the other classes nor on the cache.

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
        return self.features(vocabulary.phrases)

    def features(self, classes: Sequence[tuple[str, ...]]) -> Tensor:
        """The same of the phrases of each class, which may be one to the tokenizer.

        Raises:
            ValueError: A prompt is too long, or a feature is not finite.
        """
        missing = []
        for phrases in dict.fromkeys(classes):
            if phrases not in self._known:
                feature = self._read(phrases)
                if feature is None:
                    missing.append(phrases)
                else:
                    self._known[phrases] = feature
        with tqdm(
            total=len(missing),
            desc='Encoding class names',
            unit='class',
            leave=False,
            disable=None if len(missing) > 1 else True,
        ) as progress:
            for group in self._groups(missing):
                for phrases, feature in zip(group, self.encode_classes(group), strict=True):
                    self._write(phrases, feature)
                    self._known[phrases] = feature
                progress.update(len(group))
        features = torch.stack([self._known[phrases] for phrases in classes])
        for phrases in list(self._known)[:-KEPT]:
            del self._known[phrases]
        forget_words(self.tokenizer)
        return features

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

    def encode_class(self, phrases: Sequence[str]) -> Tensor:
        """Compute a class feature ``(D,)``; see :meth:`encode_classes`."""
        return self.encode_classes([phrases])[0]

    def encode_classes(self, classes: Sequence[Sequence[str]]) -> Tensor:
        """Compute features ``(C, D)``: the normalised mean of each class's prompts' unit features.

        Args:
            classes: The phrases of each class.

        Raises:
            ValueError: See :meth:`__call__`.
        """
        tokens = [
            self.tokenize(
                [template.replace('{}', one) for one in phrases for template in self.templates],
                phrases[0],
            )
            for phrases in classes
        ]
        prompts = self.encode_prompts(torch.cat(tokens)).split([len(one) for one in tokens])
        features = torch.stack([F.normalize(one.mean(dim=0), dim=-1) for one in prompts])
        for phrases, feature in zip(classes, features, strict=True):
            if not torch.isfinite(feature).all():
                raise ValueError(
                    f'the text feature of class {phrases[0]!r} is not finite: the weights '
                    'are damaged or for another model'
                )
        return features

    @torch.no_grad()
    def encode_prompts(self, tokens: Tensor) -> Tensor:
        """Compute unit features ``(n, D)`` float32, on the CPU, of token ids.

        Args:
            tokens: ``(n, context_length)``.
        """
        device = next(self.clip.parameters()).device
        lengths = _lengths(self.clip, tokens)
        causal = _causal(self.clip)
        blocks = None if causal is None else prefix_blocks(causal[0])
        features = torch.empty(len(tokens), self.dim)
        if causal is not None and blocks is not None:
            text = causal[0]
            found = encode_prefixes(text, blocks, tokens.to(device), lengths)
            for rows in torch.arange(len(tokens)).split(ROWS):
                part = found[rows[torch.arange(ROWS) % len(rows)]]
                part = _project(text, text.ln_final(part))[: len(rows)].float()
                features[rows] = F.normalize(part, dim=-1).cpu()
            return features
        lengths = (lengths + STEP - 1) // STEP * STEP
        for length in lengths.unique().tolist():
            for rows in (lengths == length).nonzero().flatten().split(ROWS):
                batch = tokens[rows[torch.arange(ROWS) % len(rows)]].to(device)
                found = encode_text(self.clip, batch, length)[: len(rows)].float()
                features[rows] = F.normalize(found, dim=-1).cpu()
        return features

    def _groups(self, classes: Sequence[tuple[str, ...]]) -> Iterator[list[tuple[str, ...]]]:
        """Classes with about :data:`GROUP` prompts together."""
        group: list[tuple[str, ...]] = []
        for phrases in classes:
            group.append(phrases)
            if sum(map(len, group)) * len(self.templates) >= GROUP:
                yield group
                group = []
        if group:
            yield group

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
            probe = self.tokenizer([PROBE], context_length=self.context_length).tolist()
            architecture = architecture_digest(self.clip, without='visual')
            self._tower = f'{weights_digest(text)} {architecture} {probe}'
            self._open_clip = version('open_clip_torch')
        content = [
            self._tower,
            list(phrases),
            list(self.templates),
            [ROWS, STEP, prefixes.ROWS, prefixes.STEP],
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


def forget_words(tokenizer: Any) -> None:
    """Bound the memory of words of open_clip's ``SimpleTokenizer``; others have none."""
    words = getattr(tokenizer, 'cache', None)
    while isinstance(words, dict) and len(words) > KEPT_WORDS:
        words.popitem()  # the newest: the first ones are its special tokens


def encode_text(clip: Any, tokens: Tensor, length: int | None = None) -> Tensor:
    """Compute text features ``(n, D)``, not normalised, of token ids ``(n, context_length)``.

    A causal text tower does not use tokens after the one that it reads. So the
    batch is cut at its longest prompt, which changes results only by float
    round-off. Other text towers get all tokens.

    Args:
        clip: The model.
        tokens: Token ids.
        length: Cut there instead, at no less than the longest prompt.
    """
    causal = _causal(clip)
    if causal is None:
        return clip.encode_text(tokens)
    text, mask, pool, end = causal
    length = min(length or int(_lengths(clip, tokens).max()), tokens.shape[1])
    tokens = tokens[:, :length]
    x = text.token_embedding(tokens) + text.positional_embedding[:length]
    x = text.transformer(x, attn_mask=mask[:length, :length])
    x = text_global_pool(text.ln_final(x), tokens, pool, eos_token_id=end)
    return _project(text, x)


def _project(text: Any, x: Tensor) -> Tensor:
    """Apply the projection of a text tower, if it has one."""
    projection = text.text_projection
    if projection is None:
        return x
    return projection(x) if isinstance(projection, nn.Linear) else x @ projection


def _causal(clip: Any) -> tuple[Any, Tensor, str, int] | None:
    """Tower, mask, pooling and end token of a causal text tower; None for any other."""
    text: Any = getattr(clip, 'text', None)
    if type(clip) is open_clip.CLIP:
        text, mask, pool, end = clip, clip.attn_mask, clip.text_pool_type, clip.text_eos_id
    elif type(text) is TextTransformer and text.cls_emb is None and not text.output_tokens:
        mask, pool, end = text.attn_mask, text.pool_type, text.eos_id
    else:
        return None
    return None if mask is None or pool not in ('argmax', 'eos') else (text, mask, pool, end)


def _lengths(clip: Any, tokens: Tensor) -> Tensor:
    """How many tokens ``(n,)`` of each prompt the text tower uses."""
    causal = _causal(clip)
    if causal is None:
        return torch.full((len(tokens),), tokens.shape[1], device=tokens.device)
    _, _, pool, end = causal
    ends = tokens.argmax(dim=-1) if pool == 'argmax' else (tokens == end).int().argmax(dim=-1)
    return ends + 1
