"""From cosines with words to labels: synonyms, background, thresholds."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...clip import Vocabulary, load_descriptions
from ...labels import IGNORED
from ...registry import MODELS
from ..clip_encoder import CLIPEncoder


@MODELS.register_module()
class SegTextHead(nn.Module):
    """Softmax over all words; a class scores as its best word.

    Unlike a tagger's, a class's synonyms are words of their own, each with its
    own text feature.

    Args:
        classes: The F classes with their synonyms: a built-in list
            (``'seg_voc'``), a file or a list.
        background: Words of the background, one an entry; label 0 if there are
            any.
        templates: Prompt templates; published: ``'templates_80'``.
        logit_scale: Factor of the cosines in the softmax.
        background_threshold: Pixels whose top probability is lower become
            background.
        area_threshold: Classes that win no more than this share of all pixels
            won by classes are left out of that image.
        descriptions: A sentence or so about each class, such as a language
            model writes (ITACLIP): a file with one a line, in the order of the
            classes, or a list; None for none. The background has none.
        description_weight: ``a`` of ``(1 - a) * word + a * description``, the
            text feature of each word of a class, not brought to unit length
            again; published: 0.05 to 0.2. Of no effect without descriptions.

    Attributes:
        vocabulary: The classes.
        words: The K words, the background's first.
        word_labels: ``(K,)`` label of each word.

    Raises:
        ValueError: A word of two classes, a threshold without background words,
            a threshold or weight outside [0, 1], or not one description a class.
    """

    def __init__(
        self,
        classes: str | Sequence,
        background: str | Sequence = (),
        templates: str | Sequence[str] = 'templates_80',
        logit_scale: float = 40.0,
        background_threshold: float = 0.0,
        area_threshold: float = 0.0,
        descriptions: str | Sequence[str] | None = None,
        description_weight: float = 0.1,
    ) -> None:
        super().__init__()
        self.vocabulary = Vocabulary.load(classes)
        if not len(self.vocabulary):
            raise ValueError('classes is empty: name at least one class to find')
        groups = list(self.vocabulary.phrases)
        background_words = [
            word for phrases in Vocabulary.load(background).phrases for word in phrases
        ]
        self.with_background = bool(background_words)
        if self.with_background:
            groups.insert(0, tuple(background_words))
        for key, value in {
            'background_threshold': background_threshold,
            'area_threshold': area_threshold,
        }.items():
            if not 0 <= value <= 1:
                raise ValueError(f'SegTextHead needs {key} in [0, 1], not {value}')
            if value and not self.with_background:
                raise ValueError(
                    f'{key}={value} needs words of a background, which takes the '
                    'pixels that classes lose'
                )
        if not 0 <= description_weight <= 1:
            raise ValueError(
                f'SegTextHead needs description_weight in [0, 1], not {description_weight}'
            )
        self.descriptions = (
            None if descriptions is None else load_descriptions(descriptions, self.vocabulary.names)
        )
        self.description_weight = description_weight
        self._check_words(groups)
        self.words = Vocabulary.load([word for group in groups for word in group])
        self.word_labels = torch.tensor(
            [label for label, group in enumerate(groups) for _ in group]
        )
        self.templates = templates
        self.logit_scale = logit_scale
        self.background_threshold = background_threshold
        self.area_threshold = area_threshold

    def text(self, encoder: CLIPEncoder) -> Tensor:
        """Text features ``(K, D)`` of the words, float32, on the CPU.

        They are of unit length, but for words of classes with descriptions,
        which are prompts of their own, without a template.
        """
        text = encoder.encode_names(self.words, self.templates)
        if self.descriptions is None:
            return text
        described = encoder.encode_names(self.descriptions, ['{}'])
        classes = self.word_labels - int(self.with_background)
        weight = self.description_weight * (classes[:, None] >= 0)
        return (1 - weight) * text + weight * described[classes]

    def rows(self, tags: Sequence[int] | None) -> list[int]:
        """Words that take part where only some classes are looked for.

        Args:
            tags: Indices of the classes; all if None.
        """
        if tags is None:
            return list(range(len(self.words)))
        first = int(self.with_background)
        wanted = {*([0] if first else []), *(tag + first for tag in tags)}
        return [row for row, label in enumerate(self.word_labels.tolist()) if label in wanted]

    def probabilities(self, cosines: Tensor, rows: Sequence[int]) -> tuple[Tensor, list[int]]:
        """Probability planes of the labels.

        Args:
            cosines: ``(k, H, W)`` with the words in ``rows``.
            rows: The words, at least one.

        Returns:
            ``(P, H, W)``, the best word's of each label, and the P labels.
        """
        words = (self.logit_scale * cosines).softmax(dim=0)
        labels, index = self.word_labels[list(rows)].unique(return_inverse=True)
        planes = words.new_zeros(len(labels), *words.shape[1:])
        for row, plane in enumerate(index.tolist()):
            torch.maximum(planes[plane], words[row], out=planes[plane])
        return planes, labels.tolist()

    def rule_out(self, planes: Tensor) -> Tensor:
        """Set the probabilities of classes under the ``area_threshold`` to 0.

        Args:
            planes: ``(P, H, W)`` probabilities, the background's first.
        """
        if not self.area_threshold:
            return planes
        area = torch.bincount(planes.argmax(dim=0).flatten(), minlength=len(planes))
        area[0] = 0  # of the background, which is not ruled out
        kept = area > self.area_threshold * area.sum()
        kept[0] = True
        return planes * kept[:, None, None]

    def labels(self, planes: Tensor, labels: Sequence[int]) -> Tensor:
        """Label of each pixel ``(H, W)``.

        Args:
            planes: ``(P, H, W)`` probabilities, of classes that are not ruled out.
            labels: Of the planes, in order; all 255 if there are none.
        """
        if not labels:
            return torch.full(planes.shape[1:], IGNORED, dtype=torch.long, device=planes.device)
        best, index = planes.max(dim=0)
        label = torch.tensor(list(labels), device=planes.device)[index]
        if self.background_threshold:
            label[best < self.background_threshold] = 0
        return label

    def _check_words(self, groups: Sequence[tuple[str, ...]]) -> None:
        names = (['the background'] if self.with_background else []) + [
            repr(name) for name in self.vocabulary.names
        ]
        owner: dict[str, str] = {}
        for name, group in zip(names, groups, strict=True):
            for word in group:
                if word in owner:
                    others = f'{owner[word]} and {name}' if owner[word] != name else name
                    raise ValueError(
                        f'the word {word!r} occurs twice, in {others}: whose pixels '
                        'are those that it wins? Leave it out of one'
                    )
                owner[word] = name
