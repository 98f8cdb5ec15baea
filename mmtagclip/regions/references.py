"""Banks of references: what a word looks like, found in unlabelled images (ReCo, NeurIPS 2022).

A bank is a ``.safetensors`` file of R words:

- ``references`` ``(R, C')`` float32: features of another model, unit length;
- ``levels`` ``(R, 4)`` float32: over the places of the word's images, mean and deviation of the
  cosines with its text, then of those with its reference.

The metadata ``mmtagclip``, a JSON object, says whose features they are, see :class:`ReferenceBank`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..files import safetensors_content, user_path
from ..records import parse_json
from .bank import LENGTH_ERROR, FeatureFile

FORMAT = 'mmtagclip references 1'
# Published factor of the cosines with a text, before the sigmoid. Those with a reference have none.
SHARPNESS = 10.0


class ReferenceBank(FeatureFile):
    """A bank of references, held in memory.

    Args:
        path: The file, of ``mmtagclip references``.

    Attributes:
        facts: ``words`` (the R words), ``dimension`` (C'), ``encoder`` (digests of CLIP's weights
            and architecture, and more), ``source`` (name and digest of the model whose features
            the references are), ``settings`` (how they were found), ``images`` (the paths of each
            word's images, the most alike first), ``errors`` (images that could not be read, with
            the reason).
        references: ``(R, C')`` float32, unit length.
        levels: ``(R, 4)`` float32, see above.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, not finished, or no bank of references.
    """

    of_clip, of_source, another = 'references chosen by', 'references', 'make references'

    def __init__(self, path: str | Path) -> None:
        path = user_path(path)
        if not path.is_file():
            begun = path.with_name(f'{path.name}.unfinished').is_dir()
            what = 'are not finished' if begun else 'are not there'
            raise FileNotFoundError(f'the references {path} {what}: run mmtagclip references')
        self._path = path
        try:
            self._read()
        except Exception as error:
            reason = ' '.join(str(error).split())
            raise ValueError(f'{path} is no bank of references, or damaged: {reason}') from None
        self._rows = {word: row for row, word in enumerate(self.facts['words'])}

    def _read(self) -> None:
        from safetensors import safe_open

        with safe_open(self._path, 'pt') as file:
            metadata = file.metadata() or {}
            self.facts = parse_json(metadata.get('mmtagclip', 'null'))
            if not isinstance(self.facts, dict) or self.facts.get('format') != FORMAT:
                raise ValueError(f'its metadata lacks "format": "{FORMAT}"')
            _check_facts(self.facts)
            self.references, self.levels = (
                file.get_tensor(name) for name in ('references', 'levels')
            )
        rows = len(self.facts['words'])
        for name, tensor, columns in (
            ('references', self.references, self.facts['dimension']),
            ('levels', self.levels, 4),
        ):
            if tensor.shape != (rows, columns) or tensor.dtype != torch.float32:
                raise ValueError(f'it has no float32 {name} of shape {(rows, columns)}')
        length = (self.references.norm(dim=1) - 1).abs() < LENGTH_ERROR  # False for NaN
        if not length.all() or not torch.isfinite(self.levels).all():
            raise ValueError('a reference does not have length 1, or a level is not finite')

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    def row(self, word: str) -> int | None:
        """The row of a word; None if the bank does not have it."""
        return self._rows.get(word)


def agreement(features: Tensor, vectors: Tensor, sharpness: float = 1.0) -> Tensor:
    """Sigmoid of the cosines of places with vectors, as published.

    Args:
        features: ``(n, D, h, w)`` of any length.
        vectors: ``(R, D)``, unit length.
        sharpness: Factor of the cosines.

    Returns:
        ``(n, R, h, w)`` in [0, 1].
    """
    return (sharpness * place_cosines(features, vectors)).sigmoid()


def place_cosines(features: Tensor, vectors: Tensor) -> Tensor:
    """Cosines ``(n, R, h, w)`` of places ``(n, D, h, w)`` with unit vectors ``(R, D)``."""
    return torch.einsum('ndhw,rd->nrhw', F.normalize(features, dim=1), vectors)


def cosegment(features: Tensor, weights: Tensor, published_slices: bool = False) -> Tensor:
    """Find the place of each image that is most alike to a place of every image.

    A place scores in an image as the highest of its cosines with the image's places, each times the
    weight of that place. The place with the highest mean over all images is the image's seed.

    Args:
        features: ``(n, C, h, w)`` of images of one size, of any length.
        weights: ``(n, h, w)``, of the places that are compared with.
        published_slices: Whether image i (from 0) stands for images i to 2i, as in the released
            code, which cuts its columns from ``i * h * w`` to ``(2 * i + 1) * h * w``.

    Returns:
        ``(n, C)`` features of the seeds.
    """
    count, channels, height, width = features.shape
    size = height * width
    places = features.flatten(2).transpose(1, 2)
    unit = F.normalize(places, dim=2)
    columns = unit.reshape(-1, channels).T * weights.reshape(-1)
    ends = [(2 * i + 1 if published_slices else i + 1) * size for i in range(count)]
    seeds = []
    # Image by image: a table of all products takes (n * h * w)² numbers.
    for own, place in zip(unit, places, strict=True):
        table = own @ columns
        best = [table[:, i * size : end].amax(dim=1) for i, end in enumerate(ends)]
        seeds.append(place[torch.stack(best).mean(dim=0).argmax()])
    return torch.stack(seeds)


def product(text: Tensor, references: Tensor, size: tuple[int, int]) -> Tensor:
    """The published score: the agreement with the text times that with the reference.

    Args:
        text: Cosines ``(K, h, w)`` with the texts.
        references: Cosines ``(K, h', w')`` with the references.
        size: ``(H, W)`` to which both agreements are resized, bilinear.

    Returns:
        ``(K, H, W)`` in [0, 1].
    """
    first, second = (
        F.interpolate(one.sigmoid()[None], size=size, mode='bilinear', align_corners=False)[0]
        for one in (SHARPNESS * text, references)
    )
    return first * second


def references_content(
    facts: Mapping[str, Any], references: Tensor, levels: Tensor
) -> Iterator[bytes]:
    """The content of a bank's file.

    Args:
        facts: See :class:`ReferenceBank`, but ``format`` and ``dimension``.
        references: ``(R, C')``, unit length.
        levels: ``(R, 4)``.
    """
    tensors = {
        name: ('F32', tuple(one.shape), [one.float().cpu().numpy().astype('<f4').tobytes()])
        for name, one in (('references', references), ('levels', levels))
    }
    whole = {'format': FORMAT, 'dimension': references.shape[1], **facts}
    return safetensors_content(tensors, {'mmtagclip': json.dumps(whole)}, 'ask for fewer words')


def _check_facts(facts: Mapping[str, Any]) -> None:
    words: Sequence[Any] = facts.get('words') or ()
    if (
        not isinstance(words, list)
        or not words
        or not all(isinstance(word, str) for word in words)
        or type(facts.get('dimension')) is not int
        or not all(isinstance(facts.get(key), dict) for key in ('encoder', 'source', 'settings'))
        or not {'name', 'architecture', 'weights'} <= facts['encoder'].keys()
        or not {'name', 'weights'} <= facts['source'].keys()
    ):
        raise ValueError('its metadata is damaged')
