"""Descriptions of classes: prompts made of them, and ways to join their text features."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import read_text, user_path
from .class_files import read_mapping

if TYPE_CHECKING:  # options are checked without torch
    from torch import Tensor

    from .vocabulary import Vocabulary

STYLES = ('which', 'prefix', 'plain')
JOINS = ('mean', 'unit', 'max', 'reweight', 'tse')
# What a clause begins with, and what goes before it; else "which has ".
STARTS = (
    (('a', 'an'), 'which is '),
    (('has', 'have', 'often', 'typically', 'may', 'can'), 'which '),
    (('used',), 'which is '),
)
PREFIXES = (
    (('a',), 'which is '),
    (('has', 'often', 'typically', 'may', 'can'), 'which '),
    (('used',), 'which is '),
)


def clause(descriptor: str, style: str = 'which') -> str:
    """A descriptor as a clause of a prompt, such as "which has four legs".

    Args:
        descriptor: Such as "four legs" or "often seen on snow".
        style: ``'which'`` chooses between "which is", "which" and "which has" by the first word,
            ``'prefix'`` by the first letters, as published ("which is antennae"); ``'plain'``
            leaves the descriptor as it is.
    """
    if style == 'plain':
        return descriptor
    if style == 'prefix':
        found = (said for starts, said in PREFIXES if descriptor.startswith(starts))
    else:
        first = descriptor.partition(' ')[0].casefold()
        found = (said for starts, said in STARTS if first in starts)
    return next(found, 'which has ') + descriptor


@dataclass(frozen=True)
class Descriptions:
    """What is said about classes, and how it is used: an option of tagger and segmentor.

    Attributes:
        source: Descriptors of each class, by the name that results report; in a config a file,
            JSON or YAML, with ``name: [descriptor, ...]``, or a dict.
        style: See :func:`clause`.
        join: How the features of a class's prompts become its score. ``'mean'`` of the cosines,
            as published: the text feature is their mean, not of unit length; ``'unit'``, that
            mean with unit length; ``'max'``, the best prompt; ``'reweight'``, a mean in which
            each prompt counts as much as it resembles the whole image (RAM++); ``'tse'``, the
            feature of the plain name, moved towards the clusters of all prompts (ExCEL).
        prompt: Prompt of a name and a clause.
        temperature: Of ``'reweight'``: factor of the cosines in the softmax of the weights;
            RAM++ learns it, from this value on.
        clusters: Of ``'tse'``: number of clusters; published: 112 (VOC), 224 (COCO).

    Raises:
        FileNotFoundError: There is no such file.
        TypeError: A descriptor is no string.
        ValueError: The file is damaged, a class has no descriptor, an option is unknown or out
            of range.
    """

    source: Mapping[str, tuple[str, ...]]
    style: str = 'which'
    join: str = 'mean'
    prompt: str = '{name}, {clause}'
    temperature: float = 1 / 0.07
    clusters: int = 112

    def __post_init__(self) -> None:
        for key, known in (('style', STYLES), ('join', JOINS)):
            if getattr(self, key) not in known:
                raise ValueError(
                    f'{key} of descriptions must be one of {", ".join(known)}, not '
                    f'{getattr(self, key)!r}'
                )
        for part in ('{name}', '{clause}'):
            if self.prompt.count(part) != 1:
                raise ValueError(f'prompt of descriptions must hold {part} once: {self.prompt!r}')
        if not self.temperature > 0:
            raise ValueError(f'temperature of descriptions must be above 0: {self.temperature}')
        if self.clusters <= 10:
            raise ValueError(
                f'clusters of descriptions must be above 10, not {self.clusters}: the rule that '
                'leaves out a tenth leaves out none or all of so few'
            )
        object.__setattr__(self, 'source', load_descriptors(self.source))

    @classmethod
    def of(cls, option: 'str | Path | Mapping[str, Any] | Descriptions') -> 'Descriptions':
        """Read the option: a file, the descriptors by name, or a dict with ``source``.

        Raises:
            TypeError: See the class, or it is none of these.
            ValueError: See the class.
        """
        if isinstance(option, Descriptions):
            return option
        if isinstance(option, Mapping) and 'source' in option:
            known = set(cls.__dataclass_fields__)
            unknown = sorted(option.keys() - known)
            if unknown:
                raise ValueError(
                    f'descriptions have no option {unknown[0]!r}, only {", ".join(sorted(known))}'
                )
            return cls(**option)
        if isinstance(option, str | Path | Mapping):
            return cls(option)  # type: ignore[arg-type]
        raise TypeError(f'descriptions must be a file or a dict, not {option!r}')

    def check(self, classes: 'Vocabulary') -> None:
        """Refuse descriptions of a class that does not exist.

        Args:
            classes: All that may have descriptions.

        Raises:
            ValueError: There is one; the message names it, and the nearest class.
        """
        for name in self.source:
            if name not in classes.names:
                near = get_close_matches(name, classes.names, 1)
                meant = f'; did you mean {near[0]!r}?' if near else ''
                raise ValueError(f'there are descriptions of {name!r}, which is no class{meant}')

    def prompts(self, classes: 'Vocabulary') -> list[tuple[str, ...]]:
        """The prompts of each class.

        Args:
            classes: The classes; a prompt has the first phrase of each.

        Raises:
            ValueError: A class has no descriptions.
        """
        missing = [name for name in classes.names if name not in self.source]
        if missing:
            raise ValueError(
                f'{len(missing)} of {len(classes)} classes have no descriptions, such as '
                f'{missing[0]!r}: every class needs some'
            )
        return [
            tuple(
                self.prompt.replace('{name}', phrases[0].replace('_', ' ')).replace(
                    '{clause}', clause(one, self.style)
                )
                for one in self.source[name]
            )
            for name, phrases in zip(classes.names, classes.phrases, strict=True)
        ]


def load_descriptors(
    source: str | Path | Mapping[str, Sequence[str]],
) -> dict[str, tuple[str, ...]]:
    """Read descriptors by the name of their class.

    Args:
        source: See :class:`Descriptions`.

    Raises:
        FileNotFoundError: There is no such file.
        TypeError: A name or descriptor is no string.
        ValueError: The file is damaged, or a class has no or an empty descriptor.
    """
    where = 'descriptions'
    content: Any = source
    if isinstance(source, str | Path):
        path = user_path(source)
        where = str(path)
        text = read_text(path, 'file of descriptions')
        try:
            content = read_mapping(text)
        except ValueError as error:
            raise ValueError(f'{path} {error}') from None
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f'{where} must map class names to lists of descriptors')
    found = {}
    for name, texts in content.items():
        if not isinstance(name, str):
            raise TypeError(f'{where}: {name!r} is no class name: put it in quotes')
        if not isinstance(texts, list | tuple):
            raise TypeError(f'{where}: {name!r} must have a list of descriptors, not {texts!r}')
        for text in texts:
            if not isinstance(text, str):
                raise TypeError(f'{where}: {name!r} has the descriptor {text!r}, no string')
        if not texts or not all(text.strip() for text in texts):
            raise ValueError(f'{where}: {name!r} has no descriptor, or an empty one')
        found[name] = tuple(dict.fromkeys(text.strip() for text in texts))
    return found


@dataclass(frozen=True, eq=False)
class Described:
    """Text features of all prompts of the classes.

    Attributes:
        descriptors: Of each of the F classes, as their file has them; R in all.
        features: ``(R, D)`` unit features of their prompts, class by class.
        owners: ``(R,)`` int64, the class of each, ascending.
        join: See :class:`Descriptions`.
        temperature: The same.
        scale: Factor of the cosines in :meth:`shares`.
    """

    descriptors: tuple[tuple[str, ...], ...]
    features: 'Tensor'
    owners: 'Tensor'
    join: str
    temperature: float
    scale: float

    def to(self, device: Any) -> 'Described':
        """The same on another device."""
        return replace(self, features=self.features.to(device), owners=self.owners.to(device))

    def means(self) -> 'Tensor':
        """Mean ``(F, D)`` of the features of each class, not of unit length."""
        total = self.features.new_zeros(len(self.descriptors), self.features.shape[1])
        total.index_add_(0, self.owners, self.features)
        return total / self.owners.bincount()[:, None]

    def weights(self, cosines: 'Tensor', temperature: float) -> 'Tensor':
        """Softmax ``(..., R)`` of cosines ``(..., R)`` over the descriptors of each class."""
        logits = temperature * cosines
        count = (*cosines.shape[:-1], len(self.descriptors))
        index = self.owners.expand_as(logits)
        top = logits.new_full(count, -float('inf')).scatter_reduce(-1, index, logits, 'amax')
        values = (logits - top.gather(-1, index)).exp()
        total = logits.new_zeros(count).scatter_add(-1, index, values)
        return values / total.gather(-1, index)

    def reweighted(self, class_token: 'Tensor') -> 'Tensor':
        """Features ``(B, F, D)`` of the classes for images, not of unit length (RAM++).

        Args:
            class_token: ``(B, D)`` of unit length.
        """
        weights = self.weights(class_token @ self.features.T, self.temperature)
        found = self.features.new_zeros(
            len(class_token), len(self.descriptors), self.features.shape[1]
        )
        for one, share in zip(found, weights, strict=True):
            one.index_add_(0, self.owners, share[:, None] * self.features)
        return found

    def shares(self, features: 'Tensor') -> 'Tensor':
        """How much each descriptor spoke for its class ``(R,)``, of each class together 1.

        The softmax over a class's descriptors of their cosines with what the class was found in,
        at the scale of the model; with ``join='reweight'`` at :attr:`temperature`.

        Args:
            features: ``(F, D)`` of unit length: for each class the patch that scored best, or the
                class token.
        """
        cosines = (self.features * features[self.owners]).sum(dim=-1)
        return self.weights(cosines, self.temperature if self.join == 'reweight' else self.scale)


def enrich(text: 'Tensor', centres: 'Tensor', kept: float = 0.9) -> 'Tensor':
    """Move text features towards clusters of descriptions (ExCEL's TSE).

    There is no temperature, so the weights of the clusters are nearly equal, and what is added is
    nearly the mean of all.

    Args:
        text: ``(F, D)`` unit features of the names.
        centres: ``(K, D)`` centres of the clusters, not of unit length.
        kept: Share of the clusters that count for a class, those of the highest products.

    Returns:
        ``(F, D)`` of unit length.

    Raises:
        ValueError: K is at most 10.
    """
    if len(centres) <= 10:
        raise ValueError(f'text can not be enriched by {len(centres)} clusters, at most 10')
    products = text @ centres.T
    cut = int((1 - kept) * len(centres))
    limit = products.sort(dim=-1).values[:, cut, None]
    weights = products.masked_fill(products < limit, -float('inf')).softmax(dim=-1)
    moved = text + weights @ centres
    return moved / moved.norm(dim=-1, keepdim=True)


def cluster(features: 'Tensor', count: int, rounds: int = 50) -> 'Tensor':
    """Centres ``(count, D)`` of k-means, from rows far apart; the same for the same features.

    Args:
        features: ``(R, D)``.
        count: Number of clusters.
        rounds: Most steps.

    Raises:
        ValueError: There are fewer different features than clusters.
    """
    features = features.unique(dim=0)
    if len(features) < count:
        raise ValueError(
            f'{len(features)} different descriptions can not have {count} clusters: set clusters'
        )
    # The first is nearest to the mean, each other farthest from those before.
    first = (features - features.mean(dim=0)).norm(dim=1).argmin()
    chosen = [int(first)]
    distance = (features - features[first]).square().sum(dim=1)
    while len(chosen) < count:
        chosen.append(int(distance.argmax()))
        distance = distance.minimum((features - features[chosen[-1]]).square().sum(dim=1))
    centres = features[chosen]
    for _ in range(rounds):
        nearest = (features @ centres.T - centres.square().sum(dim=1) / 2).argmax(dim=1)
        sums = centres.new_zeros(centres.shape).index_add_(0, nearest, features)
        sizes = nearest.bincount(minlength=count)[:, None]
        moved = sums / sizes.clamp(min=1)
        moved[sizes[:, 0] == 0] = centres[sizes[:, 0] == 0]
        if moved.equal(centres):
            break
        centres = moved
    return centres


def is_descriptions(option: Any) -> bool:
    """Whether an option is descriptors by name, not one description per class, in their order."""
    if isinstance(option, str | Path):
        return re.search(r'\.(json|ya?ml)$', str(option), re.IGNORECASE) is not None
    return isinstance(option, Mapping | Descriptions)
