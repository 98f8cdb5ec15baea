"""Segmentation by concepts: SAM 3 is asked for phrases, such as the tags of the image."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from ...clip import Encoded, Vocabulary, load_classes
from ...labels import IGNORED, labels_metainfo
from ...registry import MODELS
from ..maps import flip_back
from ..taggers.selection import Tag, TagRule
from ..taggers.tagger import TagCLIP
from .base import EncodedImage, LabelProcessor, Masks, SegNames, TrainingFreeSegmentor, build
from .concept_scores import (
    BackgroundRule,
    BestLabels,
    InstanceFinder,
    MaximumBackground,
    labels_of,
    phrase_score,
)
from .concept_words import ContextTokens, Preview
from .sam3 import Answer, Phrase, Sam3
from .tagging import build_tagger, encode_original
from .text_head import Words, other_names

NOT_FINITE = (
    'what SAM 3 returns is not finite: the weights are damaged, or the dtype is too narrow for '
    'them (try float32)'
)


@dataclass(frozen=True, eq=False)
class ConceptNames(SegNames):
    """The names of a call of :class:`ConceptSegmentor`.

    Attributes:
        words: The phrases of the classes and of the background.
        phrases: The K phrases with their tokens, in the order of ``words``.
        context: Further tokens ``(m, D)`` of each phrase.
    """

    words: Words
    phrases: tuple[Phrase, ...]
    context: tuple[Tensor, ...]

    @property
    def background(self) -> Vocabulary:
        """The phrases of the background."""
        return Vocabulary.load(self.words.background)


@dataclass(frozen=True, eq=False)
class ConceptImage(EncodedImage):
    """An image with SAM 3's vision features; see :class:`EncodedImage`.

    Attributes:
        vision: Of :meth:`Sam3.encode`.
    """

    vision: Any = None


@MODELS.register_module()
class ConceptSegmentor(TrainingFreeSegmentor[ConceptNames]):
    """A training-free segmentor that asks SAM 3 for one phrase after the other.

    The image is encoded once. Each phrase costs a run of the decoder, so it matters which
    classes are asked for: all; those that a look at a lower resolution finds (``preview``); or
    the tags of the image (``tags``): classify, then segment. The background's phrases are asked
    for whenever a class is. Nothing is asked for an image without tags, which is all background,
    or all 255 without a background.

    A class scores as its best phrase, and a pixel has the label of the best score. How many planes
    of the original image's size are held does not depend on the number of classes, and the
    decoder's memory is bounded by :class:`Sam3`'s ``max_phrases``. The scores of all labels are
    held at that size for a ``label_processor`` that needs them or for probabilities.

    Args:
        sam3: Config of :class:`Sam3`.
        classes: The F classes with their synonyms, each a phrase: a built-in list (``'voc'``), a
            file or a list.
        background: Phrases of the background; label 0 if there are any. Published:
            ``['background']``.
        confidence: Instances with a higher score count, in [0, 1]; published: 0.5 (SegEarth-OV3
            on VOC), 0.3 (ActiveSAM).
        background_rule: Config of what makes pixels background where the best score is not good
            enough: :class:`MaximumBackground`, :class:`MarginBackground`, or None. It needs a
            background.
        preview: Config of :class:`Preview`, or None to ask for all classes; ignored where tags
            decide.
        context: Configs of parts that add tokens to those of a phrase
            (:class:`NeighbourContext`, :class:`HypernymContext`). A preview does without.
        tags: Where tags come from, as in :class:`DirectSegmentor`; None to ask for all classes.
        tagger: Config of the tagger for ``tags='own'``, for the same classes in the same order;
            it gets the original image, on the patch grid.
        max_side: Images with a longer side, in pixels, are shrunk for the tagger.
        with_instances: Whether results carry ``pred_instances``, those of the classes that were
            asked for: ``labels`` ``(n,)`` (indices of the classes), ``scores`` ``(n,)`` and
            ``masks`` ``(n, H, W)`` bool.
        with_probabilities: Whether results carry ``probabilities`` ``(P, H, W)``, the scores of
            the labels that were asked for, and ``plane_labels``, these labels.
        with_seg_logits: Whether results carry ``seg_logits`` ``(labels, H, W)``, logarithms of
            the scores; for averaging over augmentations.
        data_preprocessor: :class:`CLIPDataPreprocessor` if None.
        label_processor: See :class:`TrainingFreeSegmentor`.
        pretrained: Ignored; frameworks set it.
        train_cfg: Ignored; frameworks set it.
        test_cfg: Ignored; frameworks set it.
        init_cfg: Ignored.

    Raises:
        ValueError: Options exclude each other, a class is called background, a phrase is too
            long, or the tagger has another number of classes.
    """

    tags_needed = False
    tagger_sees_original = True

    def __init__(
        self,
        sam3: ConfigDict | dict | Sam3,
        classes: str | Sequence,
        background: str | Sequence = (),
        confidence: float = 0.5,
        background_rule: ConfigDict | dict | BackgroundRule | None = None,
        preview: ConfigDict | dict | Preview | None = None,
        context: Sequence[ConfigDict | dict | ContextTokens] = (),
        tags: str | None = None,
        tagger: ConfigDict | dict | TagCLIP | None = None,
        max_side: int = 1344,
        with_instances: bool = False,
        with_probabilities: bool = False,
        with_seg_logits: bool = False,
        data_preprocessor: ConfigDict | dict | nn.Module | None = None,
        label_processor: ConfigDict | dict | LabelProcessor | None = None,
        pretrained: Any = None,
        train_cfg: Any = None,
        test_cfg: Any = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(
            tags, with_probabilities, with_seg_logits, data_preprocessor, init_cfg, label_processor
        )
        if (tags == 'own') != (tagger is not None):
            raise ValueError("tags='own' needs a tagger, and a tagger needs tags='own'")
        if not 0 <= confidence <= 1:
            raise ValueError(f'ConceptSegmentor needs confidence in [0, 1], not {confidence}')
        self.background_rule: BackgroundRule | None = build(background_rule)
        words = self._words(load_classes(classes), Vocabulary(()), None, background)
        self.classes, self.background = words.vocabulary, Vocabulary.load(words.background)
        self.sam3: Sam3 = build(sam3)
        self.confidence = confidence
        self.preview: Preview | None = build(preview)
        self.context = nn.ModuleList([build(one) for one in context])
        self.with_instances = with_instances
        self.max_side = max_side
        self.set_own(words.vocabulary.names, words.with_background)
        self.tagger = build_tagger(tagger, None, len(words.vocabulary))
        phrases = self._phrases(words)
        self._own = words, phrases, self._further(phrases)

    @property
    def encoder(self) -> Any:  # type: ignore[override]
        """SAM 3."""
        return self.sam3

    @property
    def names(self) -> ConceptNames:
        """The segmentor's own names, which a call may replace by those of :meth:`names_for`."""
        words, phrases, context = self._own
        return ConceptNames(
            vocabulary=words.vocabulary,
            dataset_meta=self.dataset_meta,
            with_background=self.with_background,
            tagger=None if self.tagger is None else self.tagger.names,
            words=words,
            phrases=phrases,
            context=context,
        )

    def names_for(
        self,
        classes: str | Sequence | Vocabulary | None = None,
        background: str | Sequence | Vocabulary | None = None,
    ) -> ConceptNames:
        """See :meth:`TrainingFreeSegmentor.names_for`; each synonym is a separate phrase."""
        if classes is None and background is None:
            return self.names
        tagger = None if self.tagger is None else self.tagger.names_for(classes, background)
        own = self.names
        words = self._words(own.vocabulary, own.background, classes, background)
        phrases = self._phrases(words)
        return ConceptNames(
            vocabulary=words.vocabulary,
            dataset_meta=labels_metainfo(words.vocabulary.names, words.with_background),
            with_background=words.with_background,
            tagger=tagger,
            words=words,
            phrases=phrases,
            context=self._further(phrases),
        )

    def check_call(
        self, names: ConceptNames, background_level: float | None = None, **rule: Any
    ) -> TagRule | None:
        """See :meth:`TrainingFreeSegmentor.check_call`."""
        if self.with_instances and self.with_seg_logits:
            raise ValueError(
                'instances of several augmented views can not be merged: leave out with_instances'
            )
        return super().check_call(names, background_level, **rule)

    def encode_group(
        self,
        images: Sequence[Tensor],
        samples: Sequence[SegDataSample],
        tagging: bool,
        keep: bool,
    ) -> tuple[Encoded | None, list[EncodedImage]]:
        """Encode one image, for SAM 3 and for the tagger."""
        (image,), (sample,) = images, samples
        tagged = encode_original(self.tagger, sample, self.max_side) if tagging else None
        encoded = ConceptImage.of(sample, image, tagged)
        return tagged, [replace(encoded, vision=self.sam3.encode(image))]  # type: ignore[call-arg]

    def segment(
        self,
        encoded: EncodedImage,
        names: ConceptNames,
        tags: Sequence[Tag] | None,
        background_level: float | None,
        with_planes: bool,
    ) -> Masks:
        """Masks of one image; see :meth:`TrainingFreeSegmentor.segment`.

        The data sample also gets ``asked``, the presence of each phrase that SAM 3 was asked
        for, in [0, 1].

        Raises:
            ValueError: What SAM 3 returns is not finite.
        """
        assert isinstance(encoded, ConceptImage)
        rows = [] if tags is not None and not tags else self._chosen(encoded, names, tags)
        rule = self.background_rule
        if background_level is not None:
            rule = MaximumBackground(background_level)
        finder = InstanceFinder(encoded.size, self.confidence) if self.with_instances else None
        device, first = self.sam3.device, int(names.with_background)
        best = BestLabels(encoded.size, device, rule is not None and rule.needs_second)
        planes: list[Tensor] = []
        plane_labels: list[int] = []
        asked: dict[str, float] = {}
        for label, scores in self._scores(encoded, names, rows, asked, finder):
            best.add(label, scores)
            plane_labels.append(label)
            if with_planes:
                planes.append(scores)
        if rows:
            labels = best.result(rule)
        else:  # an image without tags
            value = 0 if first else IGNORED
            labels = torch.full(encoded.size, value, dtype=torch.long, device=device)
            plane_labels = [0] * first
            planes = [torch.ones(encoded.size, device=device)] * first
        more: dict[str, Any] = {'asked': asked}
        if finder is not None:
            more['pred_instances'] = InstanceData(**vars(finder.result()))
        stacked = None
        if with_planes:
            empty = torch.zeros(0, *encoded.size, device=device)
            stacked = torch.stack(planes) if planes else empty
        return Masks(labels, stacked, plane_labels, more)

    def merge_views(self, logits: Sequence[Tensor]) -> Masks:
        """Masks from the mean scores of the views, by the same rule for the background."""
        mean = sum((one.exp() for one in logits), torch.zeros_like(logits[0])) / len(logits)
        every = list(range(len(mean)))
        size = (mean.shape[1], mean.shape[2])
        return Masks(labels_of(mean, every, size, mean.device, self.background_rule), mean, every)

    def extract_feat(self, inputs: Tensor) -> Tensor:
        """Features ``(B, N, D)`` of images ``(B, 3, H, W)``, on the decoder's grid."""
        return torch.cat(
            [
                self.sam3.encode(image).fpn_hidden_states[-2].flatten(2).transpose(1, 2)
                for image in inputs
            ]
        )

    def _words(self, own: Vocabulary, others: Vocabulary, classes: Any, background: Any) -> Words:
        """Other words in the place of one's own, which fit the rule for the background.

        Raises:
            ValueError: They do not, or a class is called background.
        """
        foreground, behind = other_names(own, others, classes, background)
        names = foreground.names
        if 'background' in names:
            raise ValueError(
                f"class {names.index('background')} is called 'background', which is no class: "
                "leave it out of the classes and set background=['background'], which is label 0"
            )
        words = Words(foreground, tuple(word for phrases in behind.phrases for word in phrases))
        if self.background_rule is not None and not words.with_background:
            raise ValueError(
                f'{type(self.background_rule).__name__} needs phrases of a background, which '
                'takes the pixels that classes lose'
            )
        return words

    def _phrases(self, words: Words) -> tuple[Phrase, ...]:
        owners = ['background'] * words.with_background + list(words.vocabulary.names)
        texts = [text for (text,) in words.words.phrases]
        named = [(owners[label], text) for label, text in zip(words.labels, texts, strict=True)]
        return tuple(self.sam3.phrases(named))

    @torch.no_grad()
    def _further(self, phrases: Sequence[Phrase]) -> tuple[Tensor, ...]:
        """The context tokens of each phrase, those of all parts together."""
        parts = [part(phrases, self.sam3) for part in self.context]
        none = phrases[0].tokens[:0]
        return tuple(torch.cat([none, *found]) for found in zip(*parts, strict=True)) or tuple(
            none for _ in phrases
        )

    def _chosen(
        self, encoded: ConceptImage, names: ConceptNames, tags: Sequence[Tag] | None
    ) -> list[int]:
        """Rows of the phrases to ask for."""
        rows = names.words.rows(None if tags is None else [tag.label for tag in tags])
        if tags is not None or self.preview is None or len(rows) <= self.preview.most:
            return rows
        assert encoded.image is not None
        vision = self.sam3.encode(encoded.image, self.preview.side)
        presence = self.sam3.presence(vision, [phrase.tokens for phrase in names.phrases])
        if not presence.isfinite().all():
            raise ValueError(NOT_FINITE)
        return [rows[index] for index in self.preview(presence)]

    def _scores(
        self,
        encoded: ConceptImage,
        names: ConceptNames,
        rows: Sequence[int],
        asked: dict[str, float],
        finder: InstanceFinder | None,
    ) -> Iterator[tuple[int, Tensor]]:
        """Each label that is asked for with its scores ``(H, W)``, in ascending order.

        Args:
            encoded: The image.
            names: The names of the call.
            rows: Of the phrases to ask for, ascending.
            asked: Receives the presence of each phrase.
            finder: Receives the classes' instances.
        """
        prompts = [torch.cat([names.phrases[row].tokens, names.context[row]]) for row in rows]
        labels, first = names.words.labels, int(names.with_background)
        scores: Tensor | None = None
        for place, (row, answer) in enumerate(
            zip(rows, self.sam3.ask(encoded.vision, prompts), strict=True)
        ):
            presence, logits, masks, semantic = answer
            if not torch.isfinite(presence + logits.sum() + semantic.sum()):
                raise ValueError(NOT_FINITE)
            upright = Answer(
                presence, logits, flip_back(masks, encoded.flip), flip_back(semantic, encoded.flip)
            )
            asked[names.phrases[row].text] = float(presence.sigmoid())
            if finder is not None and labels[row] >= first:
                finder.add(labels[row] - first, row, upright)
            found = phrase_score(upright, encoded.size, self.confidence)
            scores = found if scores is None else torch.maximum(scores, found)
            if place + 1 == len(rows) or labels[rows[place + 1]] != labels[row]:
                yield labels[row], scores
                scores = None
