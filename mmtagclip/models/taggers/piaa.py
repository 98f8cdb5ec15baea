"""PIAA: a Gaussian classifier of patches, fitted in closed form to unlabelled images."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import ConfigDict
from torch import Tensor, nn

from ...clip import DenseEncoder, Encoded, Names, Vocabulary, read_state_dict
from ...registry import MODELS
from .calibration import PREFIX as CALIBRATION
from .heads import TagHead, TagScores, check_finite, coarse_scores

# Patches that are computed together: a bank of C classes has C times ``bank_size``, and each of
# them C probabilities.
ROWS = 4096


class PatchBank:
    """For each class the patches that it wins with the highest certainty, in bounded memory.

    Keeps the patches with the lowest entropy. The result does not depend on
    their order or on how the bank was sharded and merged.

    Args:
        text: ``(C, D)`` text features of unit length.
        size: Patches kept for each class; published: 512.
        temperature: Factor of the cosines in the softmax over the classes;
            published: 60.

    Attributes:
        features: ``(C, size, D)`` unit patch features, the lowest entropy first.
        entropies: ``(C, size)``; infinite for an empty place.
    """

    def __init__(self, text: Tensor, size: int, temperature: float) -> None:
        count, dim = text.shape
        self.text = text
        self.temperature = temperature
        self.features = text.new_zeros(count, size, dim)
        self.entropies = text.new_full((count, size), torch.inf)

    def add(self, patches: Tensor) -> None:
        """Add patches; the best of these and of those already there are kept.

        Args:
            patches: ``(n, D)`` of unit length.
        """
        probabilities = coarse_scores(patches, self.text, self.temperature)
        entropies = -(probabilities * probabilities.clamp(min=1e-30).log()).sum(dim=-1)
        labels = probabilities.argmax(dim=-1)
        hopeful = entropies < self.entropies[labels, -1]
        for label in labels[hopeful].unique().tolist():
            mine = hopeful & (labels == label)
            self._keep(label, patches[mine], entropies[mine])

    def merge(self, features: Tensor, entropies: Tensor) -> None:
        """Add the content of another bank, given by its attributes."""
        for label in range(len(self.text)):
            mine = torch.isfinite(entropies[label])
            self._keep(label, features[label, mine], entropies[label, mine])

    def content(self) -> tuple[Tensor, Tensor, Tensor]:
        """Features ``(n, D)``, labels ``(n,)`` and probabilities of these ``(n,)``, class by class.

        The probabilities are those of the softmax over the cosines with the text.
        """
        there = torch.isfinite(self.entropies)
        features, labels = self.features[there], there.nonzero()[:, 0]
        own = [
            coarse_scores(patches, self.text, self.temperature).gather(1, mine[:, None])
            for patches, mine in _pieces(features, labels)
        ]
        return features, labels, torch.cat(own).flatten() if own else features.new_zeros(0)

    def _keep(self, label: int, features: Tensor, entropies: Tensor) -> None:
        entropies = torch.cat([self.entropies[label], entropies])
        order = entropies.sort(stable=True).indices[: self.features.shape[1]]
        self.entropies[label] = entropies[order]
        self.features[label] = torch.cat([self.features[label], features])[order]


@MODELS.register_module()
class GaussianClassifier(nn.Module):
    """Linear discriminant analysis of patch features (PIAA), fitted without labels.

    A fitted classifier is valid only for the class names and the encoder that it
    was fitted with; loading it for others is refused. ``mmtagclip.FitLoop`` fits
    it, through ``tools/train.py``.

    Args:
        bank_size: Patches that the bank keeps for each class; published: 512.
        bank_temperature: Factor of the cosines in the bank; published: 60.
        clean_temperature: Factor of the first fit's logits for the
            probabilities by which the bank is cleaned; published: 100 (VOC),
            500 (NUS-WIDE), 0.01 (COCO).
        score_temperature: Divisor of the logits in the patches' scores;
            published: 500, which makes them nearly equal and is only for
            :class:`PIAAHead`. Use 1 with DMAR and CWR: scores are then the
            Gaussians' posterior probabilities.
        keep_emptied: Cleaning keeps the patches of each class whose probability
            is above the mean by a standard deviation. If softmax saturates, there
            is none, because a probability is at most 1. If True, the most
            probable patches stay then, and a class that lost its patches to
            others keeps those that the bank had for it. If False, as in the
            released code, the class has no patch and its mean becomes its text
            feature.

    Attributes:
        weight: ``(D, C)``.
        bias: ``(C,)``.

    Raises:
        ValueError: A size or temperature is not positive.
    """

    weight: Tensor
    bias: Tensor
    identity: Tensor

    def __init__(
        self,
        bank_size: int = 512,
        bank_temperature: float = 60.0,
        clean_temperature: float = 100.0,
        score_temperature: float = 500.0,
        keep_emptied: bool = True,
    ) -> None:
        super().__init__()
        for key, value in {
            'bank_size': bank_size,
            'bank_temperature': bank_temperature,
            'clean_temperature': clean_temperature,
            'score_temperature': score_temperature,
        }.items():
            if value <= 0:
                raise ValueError(f'GaussianClassifier needs {key} > 0, not {value}')
        self.bank_size = bank_size
        self.bank_temperature = bank_temperature
        self.clean_temperature = clean_temperature
        self.score_temperature = score_temperature
        self.keep_emptied = keep_emptied
        self.fitted = False
        self.belongs_to: dict[str, Any] = {}

    def attach(self, classes: Vocabulary, encoder: DenseEncoder) -> None:
        """Set the class names and the encoder that it is fitted for.

        Args:
            classes: The C classes, in the order of the text features.
            encoder: The encoder whose patches it classifies.
        """
        self.belongs_to = {'classes': _written(classes), 'encoder': encoder.identity}
        dim = encoder.patch_dim
        self.register_buffer('weight', torch.zeros(dim, len(classes)))
        self.register_buffer('bias', torch.zeros(len(classes)))
        # A tensor, so that a checkpoint of it holds nothing but tensors.
        content = json.dumps(self.belongs_to).encode()
        self.register_buffer('identity', torch.frombuffer(bytearray(content), dtype=torch.uint8))

    def bank(self, text: Tensor) -> PatchBank:
        """An empty bank for text features ``(C, D)``."""
        return PatchBank(text, self.bank_size, self.bank_temperature)

    def fit(self, bank: PatchBank) -> list[str]:
        """Fit to the content of a bank: fit, clean, fit again.

        Returns:
            Notes for the user: which classes have no patch, which lost all.

        Raises:
            ValueError: The bank holds fewer than two patches, or cleaning left
                none.
        """
        features, labels, own = bank.content()
        weight, bias = gaussian_fit(features, labels, own, bank.text)
        relabelled, sureness, own = self._relabel(features, labels, weight, bias)
        classes = len(bank.text)
        before, after = _rows_by_class(labels, classes), _rows_by_class(relabelled, classes)
        emptied = []
        kept, kept_labels, kept_own = [], [], []
        for label, (mine, new) in enumerate(zip(before, after, strict=True)):
            sure = self._sure(new, sureness)
            probabilities = sureness[sure]
            if not len(sure) and len(mine):
                emptied.append(label)
                if self.keep_emptied:
                    sure, probabilities = mine, own[mine]
            kept.append(sure)
            kept_labels.append(torch.full_like(sure, label))
            kept_own.append(probabilities)
        index = torch.cat(kept)
        if not len(index):
            raise ValueError(
                'cleaning left no patch for any class: set keep_emptied=True, or '
                f'another clean_temperature than {self.clean_temperature}'
            )
        weight, bias = gaussian_fit(
            features[index], torch.cat(kept_labels), torch.cat(kept_own), bank.text
        )
        self.set(weight, bias)
        return self._notes([label for label, mine in enumerate(before) if not len(mine)], emptied)

    def set(self, weight: Tensor, bias: Tensor) -> None:
        """Set the weights ``(D, C)`` and the bias ``(C,)``."""
        self.weight, self.bias = weight, bias
        self.fitted = True

    def load(self, path: str | Path) -> None:
        """Load a checkpoint of ``mmtagclip.FitLoop``, or of ``mmtagclip calibrate`` upon one.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is damaged or unsafe, or holds no classifier, or its
                classifier was fitted for other classes or another encoder.
        """
        state = {
            key.rpartition('.')[2]: value
            for key, value in read_state_dict(path)[0].items()
            if not key.startswith(CALIBRATION)
        }
        if state.keys() != self.state_dict().keys():
            raise ValueError(
                f'{path} holds no classifier, as tools/train.py saves it with a config of PIAA'
            )
        try:
            self.load_state_dict(state)
        except ValueError as error:
            raise ValueError(f'{path}: {error}') from None

    def check_fitted(self) -> None:
        """Refuse to classify if the classifier is not fitted.

        Raises:
            ValueError: It is not fitted.
        """
        if not self.fitted:
            raise ValueError(
                'the classifier is not fitted: fit it with tools/train.py, and pass '
                'its checkpoint (to tools/test.py, as weights= of an inferencer, or '
                'with --weights)'
            )

    def check_names(self, classes: Vocabulary) -> None:
        """Refuse classes that the classifier was not fitted for.

        Raises:
            ValueError: The classes differ.
        """
        own, asked = self.belongs_to['classes'], _written(classes)
        if asked != own:
            raise ValueError(
                'the classifier was fitted for '
                f'{_difference(own, asked, "asked for are")}; fit one for these'
            )

    def logits(self, patches: Tensor) -> Tensor:
        """Logits ``(..., C)`` of unit patch features ``(..., D)``.

        Raises:
            ValueError: It is not fitted.
        """
        self.check_fitted()
        return patches @ self.weight + self.bias

    def forward(self, patches: Tensor) -> Tensor:
        """Scores ``(..., C)`` that sum to 1, of unit patch features ``(..., D)``."""
        return (self.logits(patches) / self.score_temperature).softmax(dim=-1)

    def _relabel(
        self, features: Tensor, labels: Tensor, weight: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Patches' classes by the first fit, and the probabilities of these and the old classes."""
        parts = []
        for patches, old in _pieces(features, labels):
            logits = patches @ weight + bias
            new = logits.argmax(dim=-1)
            cleaned = (self.clean_temperature * logits).softmax(dim=-1)
            parts.append((new, *(cleaned.gather(1, one[:, None]).flatten() for one in (new, old))))
        relabelled, sureness, own = (torch.cat(one) for one in zip(*parts, strict=True))
        return relabelled, sureness, own

    def _sure(self, index: Tensor, probabilities: Tensor) -> Tensor:
        """A class's patches whose probability is above the mean by a standard deviation."""
        own = probabilities[index]
        if not len(own):
            return index
        # The deviation of one value is NaN, and nothing is above that.
        limit = own.mean() + own.std() if len(own) > 1 else own.new_tensor(torch.inf)
        return index[own >= (limit.minimum(own.max()) if self.keep_emptied else limit)]

    def _notes(self, unseen: list[int], emptied: list[int]) -> list[str]:
        names = self.belongs_to.get('classes')

        def called(labels: list[int]) -> str:
            return ', '.join(_name(names[label]) if names else str(label) for label in labels)

        notes = []
        if unseen:
            notes.append(f'won no patch, so their text features are their means: {called(unseen)}')
        if emptied:
            consequence = (
                'they keep those of the bank'
                if self.keep_emptied
                else 'their text features are their means'
            )
            notes.append(
                f'lost all patches when the bank was cleaned ({consequence}): {called(emptied)}'
            )
        return notes

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        """Refuse a state that was fitted for other classes or another encoder.

        Raises:
            ValueError: It was, or it holds no identity; the message names both.
        """
        if f'{prefix}weight' in state_dict:
            self._check_identity(state_dict.get(f'{prefix}identity'))
            self.fitted = True
            # The same except for the encoder's name, on which nothing depends.
            state_dict = {**state_dict, f'{prefix}identity': self.identity}
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _check_identity(self, identity: Tensor | None) -> None:
        if identity is None:
            raise ValueError(
                'the checkpoint does not say for which classes and encoder its '
                'classifier was fitted; fit it again with tools/train.py'
            )
        theirs = json.loads(bytes(identity.tolist()))
        ours = self.belongs_to
        remedy = '. Fit it again with tools/train.py, or use the config that it was fitted with'
        if theirs['classes'] != ours['classes']:
            raise ValueError(
                f'the checkpoint was fitted for '
                f'{_difference(theirs["classes"], ours["classes"])}{remedy}'
            )
        same = {**theirs['encoder'], 'name': None} == {**ours['encoder'], 'name': None}
        if not same:
            raise ValueError(
                'the checkpoint was fitted for another encoder: it is for '
                f'{_describe(theirs["encoder"])}, the model has '
                f'{_describe(ours["encoder"])}{remedy}'
            )


@MODELS.register_module()
class PIAAHead(TagHead):
    """Image scores of a fitted classifier, combined with those of plain CLIP (PIAA).

    Args:
        scorer: Config of the :class:`GaussianClassifier`.
        class_token_temperature: Factor of the class token's cosines; published:
            80 (NUS-WIDE 10).
        patch_temperature: Factor of the classes' best patch scores; published:
            200 (COCO and NUS-WIDE 400).
        class_token_weight: Share of the class token in the scores; published:
            0.1.
        threshold: See :class:`TagHead`.
        min_score: The same.
        top: The same.
    """

    def __init__(
        self,
        scorer: ConfigDict | dict | GaussianClassifier,
        class_token_temperature: float = 80.0,
        patch_temperature: float = 200.0,
        class_token_weight: float = 0.1,
        threshold: float = 0.5,
        min_score: float | None = None,
        top: int | None = None,
    ) -> None:
        super().__init__(threshold, min_score, top)
        self.scorer = MODELS.build(scorer) if isinstance(scorer, dict) else scorer
        self.class_token_temperature = class_token_temperature
        self.patch_temperature = patch_temperature
        self.class_token_weight = class_token_weight

    def forward(self, encoded: Encoded, names: Names) -> TagScores:
        """Score a batch; arguments as in :class:`TagCLIPHead`."""
        features = encoded.features
        class_token = encoded.encoder.ordinary_class_token(features)
        maps = self.scorer(features.patches)
        scores = self.scores(maps, class_token, names.text)[:, : names.num_foreground]
        check_finite(features, scores)
        foreground = maps[..., : names.num_foreground].transpose(1, 2)
        return TagScores(scores, foreground.unflatten(2, features.grid))

    def scores(self, maps: Tensor, class_token: Tensor, text: Tensor) -> Tensor:
        """Image scores.

        Args:
            maps: ``(B, N, C)`` scores of the patches.
            class_token: ``(B, D)`` of unit length.
            text: ``(C, D)`` of unit length.

        Returns:
            ``(B, C)`` that sum to 1.
        """
        local = (self.patch_temperature * maps.amax(dim=1)).softmax(dim=-1)
        whole = coarse_scores(class_token, text, self.class_token_temperature)
        return self.class_token_weight * whole + (1 - self.class_token_weight) * local


def gaussian_fit(
    features: Tensor, labels: Tensor, probabilities: Tensor, text: Tensor
) -> tuple[Tensor, Tensor]:
    """Linear discriminants of Gaussians with one covariance, shrunk towards a multiple of one.

    Args:
        features: ``(n, D)`` patch features.
        labels: ``(n,)`` their classes.
        probabilities: ``(n,)`` of these, the weight of each patch in its class's
            mean.
        text: ``(C, D)`` text features: the means of classes without a patch.

    Returns:
        Weights ``(D, C)`` and bias ``(C,)``, float32; computed in float64.

    Raises:
        ValueError: Fewer than two patches, or each is its class's mean.
    """
    count, dim = features.shape
    if count < 2:
        raise ValueError(f'a Gaussian classifier can not be fitted to {count} patches')
    classes, own = len(text), probabilities.double()
    total = own.new_zeros(classes).index_add_(0, labels, own)
    sums = own.new_zeros(classes, dim)
    for vectors, mine, share in _pieces(features, labels, own):
        sums.index_add_(0, mine, share[:, None] * vectors.double())
    seen = (total > 0)[:, None]
    means = torch.where(seen, sums / torch.where(seen, total[:, None], 1), text.double())
    centre = own.new_zeros(dim)
    for vectors, mine in _pieces(features, labels):
        centre += (vectors.double() - means[mine]).sum(dim=0) / count
    scatter = own.new_zeros(dim, dim)
    for vectors, mine in _pieces(features, labels):
        residual = vectors.double() - means[mine] - centre
        scatter += residual.T @ residual
    if scatter.trace() < 1e-12 * count:
        raise ValueError(
            f'a Gaussian classifier cannot be fitted to {count} patches that do not '
            'differ from the means of their classes; it needs more images'
        )
    scatter.diagonal().add_(scatter.trace() / (count - 1))
    precision = dim * torch.linalg.pinv(scatter, hermitian=True)
    weight = precision @ means.T
    bias = -torch.log(torch.tensor(float(classes))) - (means.T * weight).sum(dim=0) / 2
    return weight.float(), bias.float()


def _pieces(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Tensors of equal length, some rows of each at a time."""
    return zip(*(one.split(ROWS) for one in tensors), strict=True)


def _rows_by_class(labels: Tensor, classes: int) -> tuple[Tensor, ...]:
    """For each class the rows that have its label, in order."""
    counts = labels.bincount(minlength=classes).tolist()
    return labels.argsort(stable=True).split(counts)


def _written(classes: Vocabulary) -> list[str | list[str]]:
    """Classes as a config writes them: each a name, or a list of it and its synonyms."""
    return [list(phrases) if len(phrases) > 1 else phrases[0] for phrases in classes.phrases]


def _name(written: str | list[str]) -> str:
    """The name of a class of :func:`_written`."""
    return written if isinstance(written, str) else written[0]


def _difference(theirs: list, ours: list, we: str = 'the model has') -> str:
    """A short text on how classes differ from those that something was fitted for."""
    there, here = [_name(one) for one in theirs], [_name(one) for one in ours]
    if there == here:
        one, other = next(pair for pair in zip(theirs, ours, strict=True) if pair[0] != pair[1])
        return f'other synonyms: it has {one!r}, {we} {other!r}'
    if sorted(there) == sorted(here):
        number = next(i for i, name in enumerate(there) if name != here[i])
        return (
            f'the same {len(there)} class names in another order: as number {number} it has '
            f'{there[number]!r}, {we} {here[number]!r}'
        )
    return f'other class names: it has {_few(there, here)}, {we} {_few(here, there)}'


def _few(names: list[str], others: list[str]) -> str:
    """How many names there are, and the first few that others lack."""
    more = [name for name in names if name not in set(others)]
    if not more:
        return f'{len(names)} names'
    dots = f' and {len(more) - 3} more' if len(more) > 3 else ''
    return f'{", ".join(repr(name) for name in more[:3])}{dots} ({len(names)} names)'


def _describe(encoder: dict[str, Any]) -> str:
    return (
        f'{encoder["name"]} with {encoder["last_block"]}, {encoder["positions"]} positions, '
        f'weights {encoder["weights"][:8]}, '
        f'architecture {encoder.get("architecture", "unknown")[:8]}'  # unknown to 0.1.0
    )
