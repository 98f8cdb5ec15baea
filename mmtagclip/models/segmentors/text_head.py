"""From cosines with words to labels: synonyms, background, thresholds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...clip import Descriptions, Vocabulary, load_classes, load_descriptions
from ...clip.descriptions import is_descriptions
from ...labels import IGNORED
from ...registry import MODELS
from ..clip_encoder import CLIPEncoder
from ..taggers.scoring import SCORINGS, check_scoring
from .windows import resize

AVERAGES = ('cosines', 'probabilities')


@dataclass(frozen=True)
class Words:
    """The words of the classes and of the background, each with a separate text feature.

    Attributes:
        vocabulary: The F classes with their synonyms.
        background: Words of the background; label 0 if there are any.
        said: The words of each class, if they are others than its phrases.

    Raises:
        ValueError: A word belongs to two classes, or to a class and the background.
    """

    vocabulary: Vocabulary
    background: tuple[str, ...]
    said: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        owner: dict[str, str] = {}
        names = [repr(name) for name in self.vocabulary.names]
        for name, group in zip(
            ['the background'] * self.with_background + names, self._groups, strict=True
        ):
            for word in group:
                if word in owner:
                    others = f'{owner[word]} and {name}' if owner[word] != name else name
                    raise ValueError(
                        f'the word {word!r} occurs twice, in {others}, so its pixels '
                        "can't be assigned: leave it out of one"
                    )
                owner[word] = name

    @property
    def with_background(self) -> bool:
        """Whether label 0 is the background."""
        return bool(self.background)

    @property
    def words(self) -> Vocabulary:
        """The K words, the background's first."""
        return Vocabulary(tuple((word,) for group in self._groups for word in group))

    @property
    def labels(self) -> list[int]:
        """Label of each of the K words."""
        return [label for label, group in enumerate(self._groups) for _ in group]

    def rows(self, tags: Sequence[int] | None) -> list[int]:
        """Rows of the words that are compared if only some classes are looked for.

        Args:
            tags: Indices of the classes; all if None.
        """
        labels = self.labels
        if tags is None:
            return list(range(len(labels)))
        first = int(self.with_background)
        wanted = {*([0] if first else []), *(tag + first for tag in tags)}
        return [row for row, label in enumerate(labels) if label in wanted]

    @property
    def _groups(self) -> list[tuple[str, ...]]:
        """The words of each label."""
        classes = self.said or self.vocabulary.phrases
        return [*([self.background] * self.with_background), *classes]


def other_names(
    own: Vocabulary,
    own_background: Vocabulary,
    classes: str | Sequence | Vocabulary | None,
    background: str | Sequence | Vocabulary | None,
) -> tuple[Vocabulary, Vocabulary]:
    """Classes and words of the background of a call.

    Args:
        own: The classes if None are given.
        own_background: Words of the background if None are given, without those that are now a
            class's.
        classes: See :func:`mmtagclip.clip.load_classes`.
        background: See :meth:`mmtagclip.clip.Vocabulary.load`.
    """
    foreground = load_classes(own if classes is None else classes)
    if background is not None:
        return foreground, Vocabulary.load(background)
    taken = {*foreground.names, *(word for one in foreground.phrases for word in one)}
    kept = [word for phrases in own_background.phrases for word in phrases]
    return foreground, Vocabulary.load([word for word in kept if word not in taken])


@MODELS.register_module()
class SegTextHead(nn.Module):
    """Softmax over all words, or the sigmoid of each; a class scores as its best word.

    Unlike in a tagger, each synonym of a class is a separate word with its own
    text feature.

    Args:
        classes: The F classes with their synonyms: a built-in list
            (``'seg_voc'``), a file or a list.
        background: Words of the background, one per entry; label 0 if there are
            any.
        templates: Prompt templates; published: ``'templates_80'``.
        logit_scale: Factor of the cosines in the softmax.
        scoring: ``'softmax'`` over all words, as published, or ``'sigmoid'``, word by word, with
            the scale and the bias of a model that was trained so (SigLIP) instead of
            ``logit_scale``. Of a sigmoid, the words with the highest cosine are the same.
        background_threshold: Pixels whose top probability is lower become
            background.
        area_threshold: Classes that win at most this share of all pixels won by
            classes are left out of that image.
        descriptions: What is said about each class, or None. The background has none. Descriptors
            by name (JSON, YAML, a dict), as a tagger takes them, see
            :class:`mmtagclip.clip.Descriptions`: a class is one word then, or with
            ``join='max'`` one for each prompt; ``'reweight'`` is refused, as only taggers have it.
            Or a short
            description of each class, such as a language model writes (ITACLIP): a file with one
            per line, in the order of the classes, or a list.
        description_weight: ``a`` of ``(1 - a) * word + a * description``, the
            text feature of each word of a class, not normalised again;
            published: 0.05 to 0.2. Ignored without such descriptions.
        replace: Words that stand in for words of ``classes``, which keep their names:
            ``{'person': 'people'}`` (CorrCLIP).
        average: What of patches is averaged over windows and views, and resized: their
            ``'cosines'``, or their ``'probabilities'`` (CLIP-DINOiser).
        objectness_threshold: Patches whose top probability is lower become background if the
            encoder's pooling finds no object there. Needs ``average='probabilities'``. Published:
            0.99.

    Attributes:
        own: The head's own words, which a call may replace by those of
            :meth:`words_for`.

    Raises:
        ValueError: A word belongs to two classes, a threshold has no background
            words, a threshold or weight is outside [0, 1], the number of
            descriptions is not that of the classes, ``scoring`` is unknown, or a word to replace
            is not among the classes' words.
    """

    def __init__(
        self,
        classes: str | Sequence,
        background: str | Sequence = (),
        templates: str | Sequence[str] = 'templates_80',
        logit_scale: float = 40.0,
        background_threshold: float = 0.0,
        area_threshold: float = 0.0,
        descriptions: str | Sequence[str] | dict | None = None,
        description_weight: float = 0.1,
        scoring: str = 'softmax',
        replace: Mapping[str, str] | None = None,
        average: str = 'cosines',
        objectness_threshold: float = 0.0,
    ) -> None:
        super().__init__()
        if average not in AVERAGES:
            raise ValueError(f'average must be {" or ".join(AVERAGES)}, not {average!r}')
        if objectness_threshold and average != 'probabilities':
            raise ValueError(
                'objectness_threshold compares probabilities of patches: set '
                "average='probabilities'"
            )
        self.average = average
        if scoring not in SCORINGS[:2]:
            raise ValueError(f"scoring must be 'softmax' or 'sigmoid', not {scoring!r}")
        self.scoring = scoring
        self.logit_bias: float | None = None
        self.classes, self.background = load_classes(classes), Vocabulary.load(background)
        self.replace = dict(replace or {})
        if replace:
            self.classes = _with_words(self.classes, replace)
        for key, value in {
            'background_threshold': background_threshold,
            'area_threshold': area_threshold,
            'objectness_threshold': objectness_threshold,
            'description_weight': description_weight,
        }.items():
            if not 0 <= value <= 1:
                raise ValueError(f'SegTextHead needs {key} in [0, 1], not {value}')
        self.descriptions: Vocabulary | None = None
        self.described: Descriptions | None = None
        if is_descriptions(descriptions):
            self.described = Descriptions.of(descriptions)  # type: ignore[arg-type]
            self.described.check(self.classes)
            if self.described.join == 'reweight':
                raise ValueError(
                    "descriptions with join='reweight' depend on the whole image, which windows "
                    "do not see: use 'mean', 'unit', 'max' or 'tse'"
                )
        elif descriptions is not None:
            self.descriptions = load_descriptions(descriptions, self.classes.names)  # type: ignore[arg-type]
        self.description_weight = description_weight
        self.templates = templates
        self.logit_scale = logit_scale
        self.background_threshold = background_threshold
        self.area_threshold = area_threshold
        self.objectness_threshold = objectness_threshold
        self.own = self._words(self.classes, self.background)

    @property
    def vocabulary(self) -> Vocabulary:
        """The head's own classes."""
        return self.classes

    @property
    def with_background(self) -> bool:
        """Whether label 0 is the background, for the head's own words."""
        return self.own.with_background

    def words_for(
        self,
        classes: str | Sequence | Vocabulary | None = None,
        background: str | Sequence | Vocabulary | None = None,
    ) -> Words:
        """Other words for a call; the head's own stay as they are.

        Args:
            classes: As in the constructor; as here if None.
            background: As in the constructor. If None, the head's own without the words
                that are now those of a class.

        Raises:
            ValueError: As in the constructor, or the head has descriptions, which belong
                to its own classes.
        """
        if classes is None and background is None:
            return self.own
        if self.descriptions is not None:
            raise ValueError(
                'this head has a description of each of its own classes, so it takes no '
                'others; use one without descriptions'
            )
        return self._words(*other_names(self.classes, self.background, classes, background))

    def text(self, encoder: CLIPEncoder, words: Words | None = None) -> Tensor:
        """Text features ``(K, D)`` of the words, float32, on the CPU.

        They have unit length, except those of classes with descriptions. A description is
        a prompt without a template.

        Args:
            encoder: The encoder.
            words: Of :meth:`words_for`; the head's own if None.

        Raises:
            ValueError: ``scoring`` is sigmoid, and the model has no bias for it.
        """
        if self.scoring == 'sigmoid':
            check_scoring(self.scoring, encoder)
            self.logit_scale, self.logit_bias = encoder.logit_scale, encoder.logit_bias
        words = self.own if words is None else words
        if self.described is not None:
            return encoder.patch_text(self._described_text(encoder, words, self.described))
        text = encoder.patch_text(encoder.encode_names(words.words, self.templates))
        if self.descriptions is None:
            return text
        described = encoder.patch_text(encoder.encode_names(self.descriptions, ['{}']))
        classes = torch.tensor(words.labels) - int(words.with_background)
        weight = self.description_weight * (classes[:, None] >= 0)
        return (1 - weight) * text + weight * described[classes]

    def _described_text(
        self, encoder: CLIPEncoder, words: Words, descriptions: Descriptions
    ) -> Tensor:
        """The same with descriptors of each class."""
        classes = words.vocabulary
        plain = Vocabulary(tuple((word,) for word in words.background)) + Vocabulary(
            tuple(phrases[:1] for phrases in classes.phrases), classes.names
        )
        text = encoder.encode_names(plain, self.templates)
        others, text = text[: len(words.background)], text[len(words.background) :]
        described = encoder.describe(classes, descriptions)
        if descriptions.join == 'max':
            return torch.cat([others, described.features])
        return torch.cat([others, encoder.join(described, text, descriptions)])

    def _words(self, classes: Vocabulary, background: Vocabulary) -> Words:
        said: tuple[tuple[str, ...], ...] = ()
        if self.described is not None:
            prompts = tuple(self.described.prompts(classes))
            one = tuple(phrases[:1] for phrases in classes.phrases)
            said = prompts if self.described.join == 'max' else one
        others = tuple(word for phrases in background.phrases for word in phrases)
        words = Words(classes, others, said)
        for key in ('background_threshold', 'area_threshold', 'objectness_threshold'):
            if getattr(self, key) and not words.with_background:
                raise ValueError(
                    f'{key}={getattr(self, key)} needs words of a background, which takes '
                    'the pixels that classes lose'
                )
        return words

    def patch_scores(self, cosines: Tensor, objectness: Tensor | None) -> Tensor:
        """What of patches is averaged, and what the other methods call ``cosines``.

        Args:
            cosines: ``(n, N, K)`` with some words, the background's first.
            objectness: ``(n, N)`` logits, positive for objects.

        Returns:
            ``(n, N, K)``: the cosines, or probabilities, which need not sum to 1.
        """
        if self.average == 'cosines':
            return cosines
        logits = self.logit_scale * cosines
        planes = (
            logits.softmax(dim=-1)
            if self.logit_bias is None
            else (logits + self.logit_bias).sigmoid()
        )
        if self.objectness_threshold and objectness is not None:
            unsure = planes.amax(dim=-1) < self.objectness_threshold
            planes[..., 0].masked_fill_(unsure & (objectness <= 0), 1)
        return planes

    def probabilities(
        self, cosines: Tensor, labels: Sequence[int], size: tuple[int, int]
    ) -> tuple[Tensor, list[int]]:
        """Probability planes of the labels.

        Args:
            cosines: ``(K, h, w)`` with some words, at least one; resized one by one.
            labels: Label of each of these.
            size: ``(H, W)`` of the planes.

        Returns:
            ``(P, H, W)``, that of the best word of each label, and the P labels.
        """
        present, index = torch.tensor(list(labels)).unique(return_inverse=True)
        planes = cosines.new_zeros(len(present), *size)
        ready = self.average == 'probabilities'
        softmax = not ready and self.logit_bias is None
        terms = self._softmax_terms(cosines, size) if softmax else None
        for one, plane in zip(cosines, index.tolist(), strict=True):
            word = self._logits(one, size)
            if terms is not None:
                word.sub_(terms[0]).exp_().div_(terms[1])
            elif not ready:
                word.sigmoid_()
            torch.maximum(planes[plane], word, out=planes[plane])
            del word
        return planes, present.tolist()

    def best_labels(
        self,
        cosines: Tensor,
        labels: Sequence[int],
        size: tuple[int, int],
        background_threshold: float | None = None,
    ) -> Tensor:
        """Label of each pixel ``(H, W)``, without holding the probabilities of all words.

        The result is that of :meth:`probabilities`, :meth:`rule_out` and :meth:`labels`, except
        for pixels where the decision is a matter of float32's last digit. It holds at most three
        planes of float32: 12 bytes per pixel.

        Args:
            cosines: As in :meth:`probabilities`.
            labels: Label of each of these, ascending.
            size: ``(H, W)`` of the result.
            background_threshold: Used instead of the head's; the head's if None.
        """
        threshold = background_threshold
        if threshold is None:
            threshold = self.background_threshold
        rows = list(enumerate(labels))
        if self.area_threshold:
            winners = self._winners(cosines, rows, size)
            kept = self._kept(torch.bincount(winners.flatten(), minlength=max(labels) + 1)).tolist()
            del winners
            rows = [(row, label) for row, label in rows if kept[label]]
        level = None
        if threshold and self.average == 'probabilities':
            level = cosines.new_full(size, threshold)
        elif threshold and self.logit_bias is not None:
            level = cosines.new_full(size, threshold).logit_()
        elif threshold:
            level, total = self._softmax_terms(cosines, size)
            level += total.log_().add_(math.log(threshold))
            del total
        winners = self._winners(cosines, rows, size, level)
        del level
        return winners.long()

    def _winners(
        self,
        cosines: Tensor,
        rows: Sequence[tuple[int, int]],
        size: tuple[int, int],
        best: Tensor | None = None,
    ) -> Tensor:
        """Label ``(H, W)`` of the word with the highest logit; uint8, or int16 beyond 255.

        Args:
            cosines: As in :meth:`probabilities`.
            rows: Row and label of each word that competes.
            size: ``(H, W)``.
            best: ``(H, W)``, logits below which a pixel has label 0; overwritten.
        """
        dtype = torch.uint8 if max(label for _, label in rows) <= 255 else torch.int16
        winners = torch.zeros(size, dtype=dtype, device=cosines.device)
        if best is None:
            best = cosines.new_full(size, -math.inf)
        for row, label in rows:
            logits = self._logits(cosines[row], size)
            winners.masked_fill_(logits > best, label)
            torch.maximum(best, logits, out=best)
            del logits  # before the next is made
        return winners

    def _softmax_terms(self, cosines: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Highest logit ``(H, W)`` of each pixel, and the sum of ``exp(logit - highest)``."""
        top = cosines.new_full(size, -math.inf)
        for one in cosines:
            torch.maximum(top, self._logits(one, size), out=top)
        total = torch.zeros_like(top)
        for one in cosines:
            total += self._logits(one, size).sub_(top).exp_()
        return top, total

    def _logits(self, cosines: Tensor, size: tuple[int, int]) -> Tensor:
        """Logits ``(H, W)`` of one word; its probabilities if these were averaged."""
        maps = resize(cosines[None, None], size)[0, 0]
        if self.average == 'probabilities':
            return maps
        logits = maps.mul_(self.logit_scale)
        return logits if self.logit_bias is None else logits.add_(self.logit_bias)

    def rule_out(self, planes: Tensor) -> Tensor:
        """Set the probabilities of classes under the ``area_threshold`` to 0.

        Args:
            planes: ``(P, H, W)`` probabilities, the background's first.
        """
        if not self.area_threshold:
            return planes
        kept = self._kept(torch.bincount(planes.argmax(dim=0).flatten(), minlength=len(planes)))
        return planes * kept[:, None, None]

    def _kept(self, area: Tensor) -> Tensor:
        """Which labels keep their pixels, by the pixels that each has won, the background first."""
        area[0] = 0  # of the background, which is not ruled out
        kept = area > self.area_threshold * area.sum()
        kept[0] = True
        return kept

    def labels(
        self, planes: Tensor, labels: Sequence[int], background_threshold: float | None = None
    ) -> Tensor:
        """Label of each pixel ``(H, W)``.

        Args:
            planes: ``(P, H, W)`` probabilities, of classes that are not ruled out.
            labels: Label of each plane; without planes, all pixels are 255.
            background_threshold: Used instead of the head's; the head's if None.
        """
        if background_threshold is None:
            background_threshold = self.background_threshold
        if not labels:
            return torch.full(planes.shape[1:], IGNORED, dtype=torch.long, device=planes.device)
        best, index = planes.max(dim=0)
        label = torch.tensor(list(labels), device=planes.device)[index]
        if background_threshold:
            label[best < background_threshold] = 0
        return label


def _with_words(classes: Vocabulary, replace: Mapping[str, str]) -> Vocabulary:
    """The same classes with other words."""
    known = {word for phrases in classes.phrases for word in phrases}
    for word in replace:
        if word not in known:
            raise ValueError(f'replace has {word!r}, which is no word of a class')
    phrases = tuple(tuple(replace.get(word, word) for word in one) for one in classes.phrases)
    return Vocabulary(phrases, classes.names)
