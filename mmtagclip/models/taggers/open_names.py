"""Names for images without a list of classes: chosen for each image, by its class token."""

import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor
from tqdm import tqdm

from ...clip import Names, Vocabulary, encode_text, load_classes
from ...clip.captions import cased_scores, names_in_captions, nearest_captions, read_captions
from ...clip.loading import context_length
from ...clip.matching import NameFinder
from ...clip.text import PROBE
from ...files import default_cache_dir, user_path, write_whole
from ...version import __version__
from ..clip_encoder import CLIPEncoder

TEMPLATE = 'a photo of a {}.'
BATCH = 256


@dataclass(frozen=True)
class AutoNames:
    """Where the names come from that an image is asked for.

    Attributes:
        names: A long list: built-in (``'imagenet12k'``), a file or a vocabulary. Without
            captions, those nearest to the image's class token are taken.
        captions: A text file with one caption per line, a folder of images whose file names
            count, or captions. Then the names of the list that occur in the captions nearest to
            the image are taken.
        count: Most names of an image.

    Raises:
        TypeError: ``count`` is no whole number.
        ValueError: ``count`` is below 1.
    """

    names: str | Path | Vocabulary = 'imagenet12k'
    captions: str | Path | tuple[str, ...] | None = None
    count: int = 20

    def __post_init__(self) -> None:
        if type(self.count) is not int:
            raise TypeError(f'count of names must be a whole number, not {self.count!r}')
        if self.count < 1:
            raise ValueError(f'an image needs at least 1 name, not {self.count}')


class OpenNames:
    """The names of a call that are chosen image by image.

    Args:
        source: Where they come from.
        encoder: The encoder of the images.
        background: Names that compete with them, and are never tags.
        templates: Prompt templates of the chosen names; the list has one simple template.

    Attributes:
        vocabulary: All names of the list. Of names that the tokenizer reads as the same, the
            first.
        labels: Their names, as results have them.
        background: Names that compete.
        count: Most names of an image.
        text: ``(V, D)`` text features of the list.
        captions: The captions, if there are any.
        caption_text: ``(M, D)`` float16, their text features.
        templates: Of the chosen names.

    Raises:
        FileNotFoundError: There is no such list or file of captions.
        ValueError: The list or the captions are bad or empty.
    """

    described = None  # the names have no descriptions

    def __init__(
        self, source: AutoNames, encoder: CLIPEncoder, background: Vocabulary, templates: Any
    ) -> None:
        self._encoder = encoder
        self.background = background
        self.count = source.count
        self.templates = templates
        captions = None if source.captions is None else read_captions(source.captions)
        self.vocabulary = distinct_names(load_classes(source.names), encoder)
        device = next(encoder.parameters()).device
        self.labels = self.vocabulary.names
        self.text = encoder.encode_names(self.vocabulary, (TEMPLATE,)).to(device)
        self.captions = captions
        self.caption_text = None if captions is None else encode_captions(captions, encoder)
        self._rows = _token_rows(self.vocabulary, encoder)
        self._background_rows = _token_rows(background, encoder)
        self._finder = None if captions is None else NameFinder(self.vocabulary.phrases)

    def nearest(self, token: Tensor) -> list[int]:
        """Indices of the names for an image, the best first; none if no caption holds one.

        Args:
            token: ``(D,)`` class token of unit length.
        """
        if self.captions is None or self.caption_text is None or self._finder is None:
            scores = self.text @ token
            return scores.sort(descending=True, stable=True).indices[: self.count].tolist()
        nearest, features = nearest_captions(token, self.caption_text)
        found = names_in_captions([self.captions[index] for index in nearest], self._finder)
        if not found:
            return []
        scores = cased_scores(token, features, self.text[found], self._encoder.logit_scale)
        order = scores.sort(descending=True, stable=True).indices[: self.count].tolist()
        return [found[place] for place in order]

    def choose(self, token: Tensor) -> Names | None:
        """The names for an image, with their text features; None if there are none.

        Args:
            token: ``(D,)`` class token of unit length.
        """
        labels = self.nearest(token)
        if not labels:
            return None
        classes = _only(self.vocabulary, labels)
        # A list may have "Tree" where the background has "tree", which is one name.
        taken = {self._rows[label] for label in labels}
        kept = [place for place, row in enumerate(self._background_rows) if row not in taken]
        background = _only(self.background, kept).without(classes)
        return self._encoder.names(classes, background, self.templates)


def distinct_names(names: Vocabulary, encoder: CLIPEncoder) -> Vocabulary:
    """A list without names that the encoder's tokenizer reads as an earlier one."""
    rows = _token_rows(names, encoder)
    kept = sorted({row: place for place, row in reversed(list(enumerate(rows)))}.values())
    if len(kept) == len(names):
        return names
    return _only(names, kept)


def _only(names: Vocabulary, places: Sequence[int]) -> Vocabulary:
    """The classes at some places of a list, in that order."""
    return Vocabulary(
        tuple(names.phrases[place] for place in places),
        tuple(names.names[place] for place in places),
    )


def _token_rows(names: Vocabulary, encoder: CLIPEncoder) -> list[tuple[int, ...]]:
    """Tokens of each class's first phrase."""
    if not len(names):
        return []
    first = [phrases[0] for phrases in names.phrases]
    tokens = encoder.tokenizer(first, context_length=context_length(encoder.clip))
    return [tuple(row) for row in tokens.tolist()]


def encode_captions(captions: Sequence[str], encoder: CLIPEncoder) -> Tensor:
    """Text features of captions ``(M, D)``, float16, of unit length, on the CPU.

    They are kept as one file in the folder of cached text features. A caption that is too long
    for the text tower is cut, as the captions of its training were.

    Raises:
        ValueError: A feature is not finite: the weights are damaged.
    """
    path = None
    length = context_length(encoder.clip)
    if encoder.text_cache is not False:
        folder = encoder.text_cache
        folder = default_cache_dir() if folder in (None, True) else user_path(str(folder))
        probe = encoder.tokenizer([PROBE], context_length=length).tolist()
        facts = [encoder.identity['weights'], encoder.identity['architecture'], list(captions)]
        facts += [probe, __version__, torch.__version__]
        key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
        path = folder / 'captions' / f'{key}.safetensors'
        try:
            known = load_file(path)['captions']
            if known.shape == (len(captions), encoder.dim) and known.isfinite().all():
                return known
        except (OSError, SafetensorError, KeyError):
            pass
    device = next(encoder.parameters()).device
    parts = []
    starts = range(0, len(captions), BATCH)
    for start in tqdm(starts, desc='Encoding captions', leave=False, disable=len(starts) < 2):
        some = list(captions[start : start + BATCH])
        tokens = encoder.tokenizer(some, context_length=length).to(device)
        with torch.no_grad():
            features = encode_text(encoder.clip, tokens)
        parts.append(F.normalize(features.float(), dim=-1).half().cpu())
    text = torch.cat(parts)
    if not text.isfinite().all():
        raise ValueError(
            'the text feature of a caption is not finite: the weights are damaged or for another '
            'model'
        )
    if path is not None:
        try:
            write_whole(path, save({'captions': text}))
        except OSError as error:
            warnings.warn(f'text features are not cached in {folder}: {error}', stacklevel=2)
    return text
