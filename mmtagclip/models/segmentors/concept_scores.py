"""From SAM 3's answers to labels: scores of phrases, rules for the background, instances."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...registry import MODELS
from .sam3 import Answer
from .windows import resize as resize_all

SAME_INSTANCE = 0.5  # IoU from which on instances of a class's phrases are one


def resize(plane: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize one plane ``(h, w)``, bilinear."""
    return resize_all(plane[None, None], size)[0, 0]


def object_scores(answer: Answer) -> Tensor:
    """Score ``(Q,)`` of each query, in [0, 1]: that of the instance times the presence."""
    return answer.logits.sigmoid() * answer.presence.sigmoid()


def phrase_score(answer: Answer, size: tuple[int, int], confidence: float) -> Tensor:
    """Score of a phrase at each pixel, in [0, 1] (SegEarth-OV3).

    The best of the instances, each times its own score, and of the semantic map, times the
    presence. The presence so counts twice for instances, as published. Masks are resized as
    logits, one at a time.

    Args:
        answer: For the phrase.
        size: ``(H, W)`` of the result.
        confidence: Instances with a higher score count.
    """
    best = resize(answer.semantic, size).sigmoid_()
    scores = object_scores(answer)
    for query in (scores > confidence).nonzero().flatten().tolist():
        mask = resize(answer.masks[query], size).sigmoid_().mul_(scores[query])
        torch.maximum(best, mask, out=best)
    return best.mul_(answer.presence.sigmoid())


class BestLabels:
    """The label with the highest score at each pixel, from scores that come one by one.

    It holds two planes of float32, or three, and the label.

    Args:
        size: ``(H, W)``.
        device: Of the scores.
        with_second: Whether to know the second-best score too.

    Attributes:
        best: ``(H, W)``, the highest score; 0 before the first.
        second: The second-highest; None if it was not wanted.
    """

    def __init__(
        self, size: tuple[int, int], device: torch.device | str, with_second: bool
    ) -> None:
        self.best = torch.zeros(size, device=device)
        self.second = torch.zeros(size, device=device) if with_second else None
        self.labels = torch.zeros(size, dtype=torch.int16, device=device)
        self.is_empty = True

    def add(self, label: int, scores: Tensor) -> None:
        """Add the scores of a label that was not added before; of equal scores the first wins.

        Args:
            label: The label.
            scores: ``(H, W)``, at least 0; overwritten.
        """
        above = torch.ones_like(scores, dtype=torch.bool) if self.is_empty else scores > self.best
        self.is_empty = False
        self.labels.masked_fill_(above, label)
        if self.second is not None:  # the lower of the two, or what is there
            torch.maximum(self.second, torch.minimum(self.best, scores), out=self.second)
        torch.maximum(self.best, scores, out=self.best)

    def result(self, rule: 'BackgroundRule | None') -> Tensor:
        """Labels ``(H, W)`` int64; what the rule says is background has label 0."""
        if rule is not None:
            self.labels.masked_fill_(rule(self.best, self.second), 0)
        return self.labels.long()


def labels_of(
    planes: Iterable[Tensor],
    labels: Sequence[int],
    size: tuple[int, int],
    device: torch.device | str,
    rule: 'BackgroundRule | None',
) -> Tensor:
    """Labels ``(H, W)`` from the scores of all labels.

    Args:
        planes: ``(H, W)`` scores of each label; kept as they are.
        labels: Their labels.
        size: ``(H, W)``.
        device: Of the planes.
        rule: What is background; None for nothing.
    """
    found = BestLabels(size, device, rule is not None and rule.needs_second)
    for label, plane in zip(labels, planes, strict=True):
        found.add(label, plane)
    return found.result(rule)


class BackgroundRule(nn.Module):
    """Base class of the rules that say where the best label is not good enough.

    Attributes:
        needs_second: Whether it needs the second-best score.
    """

    needs_second = False

    def forward(self, best: Tensor, second: Tensor | None) -> Tensor:
        """Which pixels ``(H, W)`` become background, bool.

        Args:
            best: ``(H, W)``, the highest score.
            second: The second-highest, 0 for labels that were not asked for; None unless the
                rule needs it.
        """
        raise NotImplementedError


@MODELS.register_module()
class MaximumBackground(BackgroundRule):
    """Background is where the highest score is below a threshold (SegEarth-OV3).

    Args:
        threshold: In [0, 1].

    Raises:
        ValueError: It is outside of that.
    """

    def __init__(self, threshold: float) -> None:
        super().__init__()
        if not 0 <= threshold <= 1:
            raise ValueError(f'MaximumBackground needs threshold in [0, 1], not {threshold}')
        self.threshold = threshold

    def forward(self, best: Tensor, second: Tensor | None = None) -> Tensor:
        """See :class:`BackgroundRule`."""
        return best < self.threshold


@MODELS.register_module()
class MarginBackground(BackgroundRule):
    """Background is where the best two scores ``s1, s2`` are low or close (ActiveSAM).

    That is ``s1 * sqrt(s1 - s2) < threshold ** exponent``.

    Args:
        threshold: In [0, 1].
        exponent: Of the threshold; published: 1.25.

    Raises:
        ValueError: ``threshold`` is outside of that.
    """

    needs_second = True

    def __init__(self, threshold: float, exponent: float = 1.25) -> None:
        super().__init__()
        if not 0 <= threshold <= 1:
            raise ValueError(f'MarginBackground needs threshold in [0, 1], not {threshold}')
        self.threshold = threshold
        self.exponent = exponent

    def forward(self, best: Tensor, second: Tensor | None) -> Tensor:
        """See :class:`BackgroundRule`."""
        assert second is not None
        return best * (best - second).sqrt() < self.threshold**self.exponent


@dataclass(frozen=True)
class Instances:
    """Instances of several classes in an image.

    Attributes:
        labels: ``(n,)`` int64, indices of the classes.
        scores: ``(n,)`` float32 in [0, 1].
        masks: ``(n, H, W)`` bool, on the CPU.
    """

    labels: Tensor
    scores: Tensor
    masks: Tensor


class InstanceFinder:
    """Collects the instances of an image, phrase by phrase.

    An instance that several phrases of a class find is there once, with its best score: masks
    of one class are the same instance from an IoU of 0.5 on, on SAM 3's own grid. Those of one
    phrase stay as SAM 3 gives them.

    Args:
        size: ``(H, W)`` of the masks.
        confidence: Instances have a higher score.
    """

    def __init__(self, size: tuple[int, int], confidence: float) -> None:
        self.size, self.confidence = size, confidence
        # Of each: class, number of the phrase, score, logits (h, w).
        self._found: list[tuple[int, int, float, Tensor]] = []

    def add(self, label: int, number: int, answer: Answer) -> None:
        """Add the instances of a phrase.

        Args:
            label: Index of its class.
            number: Of the phrase; each has another.
            answer: For the phrase.
        """
        scores = object_scores(answer)
        for query in (scores > self.confidence).nonzero().flatten().tolist():
            self._found.append((label, number, float(scores[query]), answer.masks[query].clone()))

    def result(self) -> Instances:
        """The instances, by class, from the highest score on; none without a pixel."""
        kept: list[tuple[int, int, float, Tensor]] = []
        masks: list[Tensor] = []
        for one in sorted(self._found, key=lambda one: (one[0], -one[2])):
            if any(_are_same(one, other) for other in kept):
                continue
            mask = (resize(one[3], self.size) > 0).cpu()
            if mask.any():
                kept.append(one)
                masks.append(mask)
        return Instances(
            torch.tensor([label for label, _, _, _ in kept], dtype=torch.long),
            torch.tensor([score for _, _, score, _ in kept], dtype=torch.float32),
            torch.stack(masks) if masks else torch.zeros(0, *self.size, dtype=torch.bool),
        )


def _are_same(one: tuple[int, int, float, Tensor], other: tuple[int, int, float, Tensor]) -> bool:
    """Whether two phrases of a class found the same instance."""
    if one[0] != other[0] or one[1] == other[1]:
        return False
    first, second = one[3] > 0, other[3] > 0
    return bool((first & second).sum() >= SAME_INSTANCE * (first | second).sum().clamp(min=1))
