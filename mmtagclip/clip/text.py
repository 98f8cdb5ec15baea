"""Text features of class names, cut at their longest prompt and cached on disk."""

import hashlib
import json
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import platformdirs
import torch
import torch.nn.functional as F
from open_clip.transformer import text_global_pool
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor, nn
from tqdm import tqdm

from ..files import write_whole
from ..version import __version__
from .encoder import DenseEncoder
from .loading import context_length, weights_digest
from .vocabulary import Vocabulary


def default_cache_dir() -> Path:
    """Folder of the cached text features, in the user's cache directory."""
    return Path(platformdirs.user_cache_dir('mmtagclip')) / 'text'


class TextEncoder:
    """Turns class names into text features, and remembers them.

    Each class is a batch of its own (its phrases times the templates), so that
    its feature does not depend on which other classes are asked for, nor on
    what the cache holds.

    Args:
        encoder: The encoder whose text tower and tokenizer are used.
        templates: Prompt templates, each with one ``{}``.
        cache_dir: Folder of cached features: :func:`default_cache_dir` if None,
            no cache if False. A feature is found by the content that it was
            made of: weights, tokenizer, phrases, templates, versions.
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
        self.cache_dir: Path | None = None
        if cache_dir is None or cache_dir is True:
            self.cache_dir = default_cache_dir()
        elif cache_dir is not False:
            self.cache_dir = Path(cache_dir).expanduser()
        self._weights: str | None = None
        self._known: dict[tuple[str, ...], Tensor] = {}

    def __call__(self, vocabulary: Vocabulary) -> Tensor:
        """Text features ``(C, D)`` float32 of unit length, on the CPU.

        Raises:
            ValueError: A prompt is longer than the text tower takes (names the
                class), or a feature is not finite (damaged weights).
        """
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

    @torch.no_grad()
    def encode_class(self, phrases: Sequence[str]) -> Tensor:
        """Feature ``(D,)`` of one class: the normalised mean over its prompts' unit features."""
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
                'are damaged or of another model'
            )
        return feature

    def tokenize(self, prompts: Sequence[str], name: str) -> Tensor:
        """Token ids ``(n, context_length)``.

        Raises:
            ValueError: A prompt does not fit; the message names the class.
        """
        limit = self.context_length
        tokens = self.tokenizer(list(prompts), context_length=limit)
        # A tokenizer cuts silently and puts the end token last. With more room a prompt that was
        # cut reads differently.
        roomy = self.tokenizer(list(prompts), context_length=limit + 1)
        cut = (tokens != roomy[:, :limit]).any(dim=1).nonzero().flatten().tolist()
        if cut:
            raise ValueError(
                f'class {name!r} makes a prompt of more than {limit} tokens, which '
                f'is all that the text tower takes: {prompts[cut[0]]!r}'
            )
        return tokens

    def _key(self, phrases: Sequence[str]) -> str:
        if self._weights is None:
            text = {
                name: value
                for name, value in self.clip.state_dict().items()
                if not name.startswith('visual.')
            }
            probe = self.tokenizer(
                ['a photo of 2 Zebras, e.g. "ünder" <b>it</b>'], context_length=self.context_length
            ).tolist()
            self._weights = f'{weights_digest(text)} {probe}'
        content = [
            self._weights,
            list(phrases),
            list(self.templates),
            __version__,
            version('open_clip_torch'),
            torch.__version__,
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def _read(self, phrases: Sequence[str]) -> Tensor | None:
        """A cached feature; None if there is none or the file is damaged."""
        if self.cache_dir is None:
            return None
        key = self._key(phrases)
        try:
            with safe_open(self._path(key), framework='numpy') as file:
                feature = file.get_tensor('feature')
                facts = file.metadata() or {}
        except (OSError, SafetensorError):
            return None
        if facts.get('key') != key or facts.get('sha256') != _digest(feature):
            return None
        return torch.from_numpy(feature)

    def _write(self, phrases: Sequence[str], feature: Tensor) -> None:
        """Store a feature: a whole file under its final name, or none and a warning."""
        if self.cache_dir is None:
            return
        try:
            self._write_file(self._path(self._key(phrases)), phrases, feature.numpy())
        except (OSError, SafetensorError) as error:
            warnings.warn(
                f'text features are not cached in {self.cache_dir}: {error}', stacklevel=2
            )
            self.cache_dir = None

    def _write_file(self, path: Path, phrases: Sequence[str], values: np.ndarray) -> None:
        facts = {'key': path.stem, 'sha256': _digest(values), 'name': phrases[0]}
        write_whole(path, save({'feature': values}, facts))

    def _path(self, key: str) -> Path:
        if self.cache_dir is None:
            raise ValueError('there is no cache')
        return self.cache_dir / key[:2] / f'{key}.safetensors'


def encode_text(clip: Any, tokens: Tensor) -> Tensor:
    """Text features ``(n, D)``, not normalised, of token ids ``(n, context_length)``.

    A causal text tower looks at nothing behind the end-of-text token, so the
    batch is cut at its longest prompt; that changes no number beyond float
    round-off. Any other text tower runs whole.
    """
    if type(clip) is not open_clip.CLIP or clip.text_pool_type != 'argmax':
        return clip.encode_text(tokens)
    length = int(tokens.argmax(dim=-1).max()) + 1
    tokens = tokens[:, :length]
    x = clip.token_embedding(tokens) + clip.positional_embedding[:length]
    x = clip.transformer(x, attn_mask=clip.attn_mask[:length, :length])
    x = text_global_pool(clip.ln_final(x), tokens, clip.text_pool_type)
    projection = clip.text_projection
    return projection(x) if isinstance(projection, nn.Linear) else x @ projection


def _digest(values: np.ndarray) -> str:
    return hashlib.sha256(values.tobytes()).hexdigest()
