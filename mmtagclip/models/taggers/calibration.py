"""SPARC: scores calibrated without labels, by the statistics of a folder of images."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...clip import DenseEncoder, Encoded, Names
from ...clip.matching import NameFinder
from ...files import read_text, split_lines, user_path

PREFIX = 'head.calibration.'  # in a tagger
# Attributes that decide no score.
WITHOUT_INFLUENCE = ('threshold', 'min_score', 'top', 'training', 'fitted', 'calibration')
TENSORS = (
    *('mean', 'deviation', 'compound_mean', 'compound_deviation', 'member', 'direction'),
    *('text', 'simple', 'compound'),
)


class Calibration(nn.Module):
    """Makes the scores of a class comparable between images and between classes (SPARC, CVPR 2025).

    A score is first seen beside the scores of the other classes in its image, then beside those
    of the same class in all images of the fit. Prompts that name several classes (compound
    prompts) may add what the class token says of combinations.

    It is valid for the names, the encoder and the head that it was fitted with; others are
    refused. :func:`mmtagclip.apis.calibrate` fits it.

    Attributes:
        mean: ``(F,)`` of each class over the images.
        deviation: ``(F,)`` the same, the sample deviation.
        compound_mean: ``(K,)`` of each compound prompt.
        compound_deviation: ``(K,)`` the same.
        member: ``(F, K)`` bool, which prompt names which class.
        direction: ``(F, K + 1)`` weights of a class's sorted compound scores, and, last, of its
            own score; their absolute values sum to 1. Zero beyond its number of prompts.
        text: ``(C, D)`` text features of the names of the fit, those of the classes first.
        simple: ``(F, D)`` text features of one simple prompt of each class.
        compound: ``(K, D)`` text features of the compound prompts.
        identity: JSON of :attr:`belongs_to`, a tensor so that a checkpoint holds nothing else.
        belongs_to: What it was fitted for, as JSON values: ``classes``, ``encoder``, ``head``.
    """

    mean: Tensor
    deviation: Tensor
    compound_mean: Tensor
    compound_deviation: Tensor
    member: Tensor
    direction: Tensor
    text: Tensor
    simple: Tensor
    compound: Tensor
    identity: Tensor

    def __init__(self, tensors: Mapping[str, Tensor], belongs_to: Mapping[str, Any]) -> None:
        super().__init__()
        for key in TENSORS:
            self.register_buffer(key, tensors[key])
        content = bytearray(json.dumps(belongs_to).encode())
        self.register_buffer('identity', torch.frombuffer(content, dtype=torch.uint8))
        self.belongs_to = dict(belongs_to)

    def forward(self, scores: Tensor, class_tokens: Tensor) -> Tensor:
        """Calibrate the scores of images.

        Args:
            scores: ``(B, F)`` of any head.
            class_tokens: ``(B, D)`` of unit length.

        Returns:
            ``(B, F)``, in deviations: 0 is usual for the class.
        """
        relative = relative_scores(scores.to(self.mean))
        single = (relative - self.mean) / self.deviation
        if not self.member.shape[1]:
            return single
        compound = self.compound_relative(class_tokens.to(self.mean))
        compound = (compound - self.compound_mean) / self.compound_deviation
        values = class_values(compound, single, self.member)
        return ((values * self.direction).sum(dim=-1) + single) / 2

    def compound_relative(self, class_tokens: Tensor) -> Tensor:
        """Cosines ``(B, K)`` of the compound prompts, beside those of the simple prompts."""
        simple, compound = (class_tokens @ text.T for text in (self.simple, self.compound))
        return relative_scores(compound, simple)

    def calibrate(self, scores: Tensor, encoded: Encoded, names: Names) -> Tensor:
        """Scores ``(B, F)`` in (0, 1) of encoded images: the sigmoid of :meth:`forward`.

        Raises:
            ValueError: Other names than those of the fit.
        """
        self.check_names(names)
        tokens = encoded.encoder.ordinary_class_token(encoded.features)
        return self(scores, tokens).sigmoid().to(scores)

    def check_names(self, names: Names) -> None:
        """Refuse names, or prompts of them, that it was not fitted for.

        Raises:
            ValueError: They differ.
        """
        own, asked = self.belongs_to['classes'], written(names)
        if asked != own:
            theirs, ours = (_some(one, other) for one, other in ((own, asked), (asked, own)))
            raise ValueError(
                f'the calibration was fitted for other names: its {len(own)} are {theirs}, those '
                f'asked for are {len(asked)}: {ours}. Fit one for these with mmtagclip calibrate'
            )
        if not torch.allclose(self.text.to(names.text), names.text, atol=1e-3):
            raise ValueError(
                'the calibration was fitted for the same names with other prompts (templates, '
                'synonyms or descriptions): fit it again with mmtagclip calibrate'
            )

    def check_model(self, encoder: DenseEncoder, head: nn.Module) -> None:
        """Refuse an encoder or a head that it was not fitted with.

        Raises:
            ValueError: They differ.
        """
        theirs = self.belongs_to['encoder']
        if {**theirs, 'name': None} != {**encoder.identity, 'name': None}:
            raise ValueError(
                f'the calibration was fitted for another encoder: it is for {theirs["name"]} with '
                f'{theirs["last_block"]}, the model has {encoder.name} with '
                f'{encoder.identity["last_block"]}'
            )
        asked = describe_head(head)
        if asked != self.belongs_to['head']:
            raise ValueError(
                'the calibration was fitted for the scores of another head: it is for '
                f'{json.dumps(self.belongs_to["head"])}, the model has {json.dumps(asked)}'
            )

    @classmethod
    def of(cls, state: Mapping[str, Tensor], prefix: str = PREFIX) -> 'Calibration | None':
        """The calibration of a tagger's checkpoint; None if it has none.

        Args:
            state: The checkpoint's tensors.
            prefix: Of the calibration's names in it.

        Raises:
            ValueError: The calibration is incomplete.
        """
        own = {
            key.removeprefix(prefix): value
            for key, value in state.items()
            if key.startswith(prefix)
        }
        if not own:
            return None
        if own.keys() != {*TENSORS, 'identity'}:
            raise ValueError('the checkpoint holds an incomplete calibration: fit it again')
        return cls(own, json.loads(bytes(own['identity'].tolist())))


def relative_scores(scores: Tensor, others: Tensor | None = None) -> Tensor:
    """Scores in deviations from the mean of their image.

    Args:
        scores: ``(B, C)``.
        others: ``(B, C')`` of which mean and sample deviation are taken; ``scores`` if None.

    Returns:
        ``(B, C)``; 0 where all scores of an image are equal.
    """
    others = scores if others is None else others
    deviation = others.std(dim=1, keepdim=True, correction=min(1, others.shape[1] - 1))
    constant = others.amax(dim=1, keepdim=True) == others.amin(dim=1, keepdim=True)
    values = (scores - others.mean(dim=1, keepdim=True)) / torch.where(constant, 1, deviation)
    return torch.where(constant, 0, values)


def class_values(compound: Tensor, single: Tensor, member: Tensor) -> Tensor:
    """What the calibrated score of a class is made of.

    Args:
        compound: ``(B, K)`` scores of the compound prompts.
        single: ``(B, F)`` scores of the classes.
        member: ``(F, K)`` bool.

    Returns:
        ``(B, F, K + 1)``: the scores of a class's compound prompts, ascending, zeros, and last
        its own score.
    """
    masked = compound[:, None].where(member, torch.inf).sort(dim=-1).values
    return torch.cat([masked.where(masked.isfinite(), 0), single[..., None]], dim=-1)


def fit_tensors(
    relative: Tensor, compound: Tensor, member: Tensor, names: Sequence[str]
) -> dict[str, Tensor]:
    """Statistics of images, and the directions along which compound prompts agree.

    Args:
        relative: ``(n, F)`` of :func:`relative_scores`.
        compound: ``(n, K)`` the same of the compound prompts.
        member: ``(F, K)`` bool, which prompt names which class.
        names: Of the F classes, for messages.

    Returns:
        Those of the tensors of :class:`Calibration` that are fitted.

    Raises:
        ValueError: Fewer than two images or classes, or a score that is the same in all images.
    """
    if len(relative) < 2:
        raise ValueError(
            f'a calibration compares images with each other: {len(relative)} is too few, give at '
            'least 2, better some hundred'
        )
    if relative.shape[1] < 2:
        raise ValueError('a calibration compares classes with each other: name at least 2')
    mean, deviation = relative.mean(dim=0), relative.std(dim=0)
    constant = (relative == relative[0]).all(dim=0).nonzero().flatten().tolist()
    if constant:
        raise ValueError(
            f'the score of {names[constant[0]]!r} is the same in all {len(relative)} images, so '
            'there is nothing to calibrate: give other images, or leave the class out'
        )
    fitted = {'mean': mean, 'deviation': deviation, 'member': member}
    fitted['compound_mean'] = compound.mean(dim=0)
    spread = compound.std(dim=0) if member.shape[1] else fitted['compound_mean']
    fitted['compound_deviation'] = torch.where(spread > 0, spread, 1)
    single = (relative - mean) / deviation
    scaled = (compound - fitted['compound_mean']) / fitted['compound_deviation']
    direction = relative.new_zeros(len(names), member.shape[1] + 1)
    for label, mine in enumerate(member):
        own = scaled[:, mine].sort(dim=1).values
        found = _direction(torch.cat([own, single[:, label, None]], dim=1))
        direction[label, : len(found) - 1], direction[label, -1] = found[:-1], found[-1]
    return {**fitted, 'direction': direction}


def _direction(values: Tensor) -> Tensor:
    """The first principal direction of ``(n, k)``, of positive mean and absolute sum 1.

    A class with one prompt has two values of the same deviation. Where these disagree, the mean
    is 0; the weight of the last value, the class's own score, is positive then.
    """
    centred = values - values.mean(dim=0)
    direction = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -1]
    mean = direction.mean()
    direction = direction * (mean if mean.abs() > 1e-6 else direction[-1]).sign()
    return direction / direction.abs().sum()


def read_compound_prompts(
    path: str | Path, phrases: Sequence[Sequence[str]]
) -> tuple[list[str], Tensor]:
    """Read prompts that name several classes, one per line.

    Which classes, is found by their names and synonyms: whole words, singular or plural, the
    longest name first; a word that belongs to one name counts for no other.

    Args:
        path: A text file in UTF-8. Empty lines are ignored.
        phrases: For each class its name and synonyms.

    Returns:
        The K prompts, and ``(F, K)`` bool, which names which class.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no text in UTF-8, holds no prompt, a prompt twice, or one that names no
            class.
    """
    path = user_path(path)
    lines = split_lines(read_text(path, 'file of compound prompts'))
    finder = NameFinder(phrases)
    prompts: dict[str, list[int]] = {}
    for number, line in enumerate(lines, start=1):
        prompt = line.strip()
        if not prompt:
            continue
        labels = finder.labels(prompt)
        if not labels:
            raise ValueError(f'{path}, line {number} names none of the classes: {prompt!r}')
        if prompt in prompts:
            raise ValueError(f'{path}, line {number} has the prompt {prompt!r} a second time')
        prompts[prompt] = labels
    if not prompts:
        raise ValueError(f'{path} holds no prompt: write one per line, such as "a cat and a dog"')
    member = torch.zeros(len(phrases), len(prompts), dtype=torch.bool)
    for number, labels in enumerate(prompts.values()):
        member[labels, number] = True
    return list(prompts), member


def written(names: Names) -> list[list[str]]:
    """Names and phrases of classes and background, as JSON values."""
    both = names.vocabulary + names.background
    return [[name, *phrases] for name, phrases in zip(both.names, both.phrases, strict=True)]


def describe_head(part: nn.Module) -> dict[str, Any]:
    """What decides the scores of a head, as JSON values: its options and those of its parts."""
    options = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in vars(part).items()
        if not key.startswith('_')
        and key not in WITHOUT_INFLUENCE
        and isinstance(value, bool | int | float | str | tuple | None)
    }
    parts = {
        name: describe_head(child)
        for name, child in part.named_children()
        if not isinstance(child, Calibration)
    }
    return {'class': type(part).__name__, **options, **parts}


def _some(names: Sequence[Sequence[str]], others: Sequence[Sequence[str]]) -> str:
    """Up to three names, those first that the others lack."""
    there = [one[0] for one in others]
    order = sorted((one[0] for one in names), key=lambda name: name in there)
    return ', '.join(map(repr, order[:3])) + ('...' if len(order) > 3 else '')
