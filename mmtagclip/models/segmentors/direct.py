"""Segmentation straight from dense features: windows, words, post-processing; with tags or not."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from ...clip import Companions, DenseFeatures, Encoded, Vocabulary
from ...labels import labels_metainfo
from ...registry import MODELS
from ..clip_encoder import CLIPEncoder
from ..maps import flip_back
from ..taggers.selection import Tag, TagRule
from ..taggers.tagger import TagCLIP
from .base import EncodedImage, LabelProcessor, Masks, SegNames, TrainingFreeSegmentor, build
from .companions import companions_of
from .sam_gatherer import SAMGatherer
from .sam_refinement import SAMRefinement
from .tagging import build_tagger, encode_original
from .text_head import SegTextHead, Words
from .windows import SlidingWindows, WholeImage, Window, resize

# Images (n, 3, H, W), and what is known of them besides, to their features.
Encode = Callable[[Tensor, Companions | None], DenseFeatures]


@dataclass(frozen=True, eq=False)
class WordNames(SegNames):
    """The names of a call of :class:`DirectSegmentor`.

    Attributes:
        words: The words of the classes and of the background.
        text: ``(K, D)`` their text features.
    """

    words: Words
    text: Tensor

    @property
    def background(self) -> Vocabulary:
        """The words of the background."""
        return Vocabulary.load(self.words.background)


@MODELS.register_module()
class DirectSegmentor(TrainingFreeSegmentor[WordNames]):
    """A training-free segmentor: every patch is compared with words (MaskCLIP and its successors).

    Cosines of the patches are resized and averaged over windows, resized to the
    image, refined, and turned into labels by the text head. With ``tags``, the
    segmentor looks only for the classes that the image is tagged with, and the
    background: classify, then segment.

    Words are resized to the original image's size one by one: masks take at most 12
    bytes per pixel of it, whatever the number of words. All words are held at that
    size for a ``logit_processor`` (4 bytes per pixel and word), and the planes of all
    labels for a ``post_processor`` or for probabilities (4 per pixel and label).

    Args:
        encoder: Config of the frozen encoder; its last block decides which
            features the patches have.
        head: Config of the :class:`SegTextHead`.
        windows: Config of :class:`SlidingWindows`; :class:`WholeImage` if None.
        views: Config of :class:`ImageViews`, the views of each window, or None.
        gatherer: Config of the part that makes the features of the whole image of those of the
            windows (:class:`SAMGatherer`), or None; only for :class:`SlidingWindows` without
            ``pad_to``, and neither with ``views`` nor with a ``patch_processor``.
        patch_processor: Config of the part that refines the patches' cosines
            (:class:`MaskCLIPRefinement`), or None; only for the whole image, and
            not with ``views``.
        cosine_processor: Config of the part that changes the cosines of the whole
            image, at the size that is encoded (:class:`BankProcessor`,
            :class:`ReferenceProcessor`), or None.
        logit_processor: Config of the part that refines the cosines
            (:class:`PAMR`), or None. This option and the next need the original
            image: put ``mmtagclip.KeepImage`` in the pipeline and ``'original'``
            among PackSegInputs' ``meta_keys``.
        post_processor: Config of the part that refines the labels' probabilities
            (:class:`DenseCRF`, :class:`PAMR`), or None.
        label_processor: See :class:`TrainingFreeSegmentor`.
        tags: Where tags come from: ``'own'`` (the tagger), ``'given'`` (the
            sample's ``tag_labels``, see ``mmtagclip.LoadTags``),
            ``'ground_truth'`` (the sample's mask: the upper bound), or None to
            look for all classes.
        tagger: Config of the tagger for ``tags='own'``, for the same classes in
            the same order; it gets the original image, on the patch grid. It
            shares the segmentor's encoder if its config has none.
        max_side: Images with a longer side, in pixels, are shrunk for the
            tagger.
        with_probabilities: Whether results carry ``probabilities`` ``(P, H, W)``,
            those of the labels that were looked for, and ``plane_labels``, the
            numbers of these labels.
        with_seg_logits: Whether results carry ``seg_logits`` ``(labels, H, W)``,
            logarithms of the probabilities, 0 for labels that were not looked for; for
            averaging over augmentations.
        data_preprocessor: :class:`CLIPDataPreprocessor` if None.
        pretrained: Ignored; frameworks set it.
        train_cfg: Ignored; frameworks set it.
        test_cfg: Ignored; frameworks set it.
        init_cfg: Ignored.

    Raises:
        ValueError: Options exclude each other, the tagger has another number of
            classes, or images are not normalised as in the encoder's training.
    """

    text: Tensor
    tags_needed = False
    tagger_sees_original = True

    def __init__(
        self,
        encoder: ConfigDict | dict | CLIPEncoder,
        head: ConfigDict | dict | SegTextHead,
        windows: ConfigDict | dict | nn.Module | None = None,
        views: ConfigDict | dict | nn.Module | None = None,
        patch_processor: ConfigDict | dict | nn.Module | None = None,
        cosine_processor: ConfigDict | dict | nn.Module | None = None,
        logit_processor: ConfigDict | dict | nn.Module | None = None,
        post_processor: ConfigDict | dict | nn.Module | None = None,
        label_processor: ConfigDict | dict | LabelProcessor | None = None,
        tags: str | None = None,
        tagger: ConfigDict | dict | TagCLIP | None = None,
        max_side: int = 1344,
        with_probabilities: bool = False,
        with_seg_logits: bool = False,
        data_preprocessor: ConfigDict | dict | nn.Module | None = None,
        pretrained: Any = None,
        train_cfg: Any = None,
        test_cfg: Any = None,
        init_cfg: dict | None = None,
        gatherer: ConfigDict | dict | SAMGatherer | None = None,
    ) -> None:
        super().__init__(
            tags, with_probabilities, with_seg_logits, data_preprocessor, init_cfg, label_processor
        )
        if (tags == 'own') != (tagger is not None):
            raise ValueError("tags='own' needs a tagger, and a tagger needs tags='own'")
        self.head: SegTextHead = build(head)
        self.encoder: CLIPEncoder = build(encoder)
        self.set_own(self.head.vocabulary.names, self.head.with_background)
        self.windows = WholeImage() if windows is None else build(windows)
        if self.windows.patch_size is None:
            self.windows.patch_size = self.encoder.patch_size
        self.views = build(views)
        self.patch_processor = build(patch_processor)
        if self.patch_processor is not None and self.views is not None:
            raise ValueError(
                'a patch_processor refines the cosines of one view, which must not '
                'be averaged with others: leave out views'
            )
        if self.patch_processor is not None and not isinstance(self.windows, WholeImage):
            raise ValueError(
                'a patch_processor needs all patches of an image together: set '
                'windows to WholeImage'
            )
        self.gatherer: SAMGatherer | None = build(gatherer)
        self._check_gatherer()
        self._check_threshold(self.head.background_threshold)
        self.cosine_processor = build(cosine_processor)
        self._check_pooling()
        if self.cosine_processor is not None:
            self.cosine_processor.attach(self.encoder, self.head.templates)
            self.cosine_processor.check_words(self.head.own.words)
        self.logit_processor = build(logit_processor)
        self.post_processor = build(post_processor)
        self.tagger = build_tagger(tagger, self.encoder, len(self.head.vocabulary))
        self.max_side = max_side
        self.register_buffer('text', self.head.text(self.encoder), persistent=False)

    @property
    def needs_original(self) -> bool:
        """Whether a processor, the gatherer or the last block needs the original image."""
        return (
            self.gatherer is not None
            or self.logit_processor is not None
            or self.post_processor is not None
            or self._whole_grid is not None
            or (self.cosine_processor is not None and self.cosine_processor.needs_original)
            or super().needs_original
        )

    @property
    def needs_regions(self) -> bool:
        """Whether a processor or the last block needs the regions of the image."""
        parts = self.encoder.last_block, self.cosine_processor
        return any(one is not None and one.needs_regions for one in parts) or super().needs_regions

    @property
    def _whole_grid(self) -> int | None:
        """See :class:`mmtagclip.clip.LastBlock`."""
        policy = self.encoder.last_block
        return None if policy is None else policy.whole_grid

    @property
    def names(self) -> WordNames:
        """The segmentor's own names, which a call may replace by those of :meth:`names_for`."""
        return WordNames(
            vocabulary=self.head.vocabulary,
            dataset_meta=self.dataset_meta,
            with_background=self.with_background,
            tagger=None if self.tagger is None else self.tagger.names,
            words=self.head.own,
            text=self.text,
        )

    def names_for(
        self,
        classes: str | Sequence | Vocabulary | None = None,
        background: str | Sequence | Vocabulary | None = None,
    ) -> WordNames:
        """See :meth:`TrainingFreeSegmentor.names_for`; each synonym is a separate word.

        Raises:
            ValueError: As in the constructor, the head has descriptions of its own
                classes, or the ``cosine_processor`` knows none of the words.
        """
        if classes is None and background is None:
            return self.names
        tagger = None if self.tagger is None else self.tagger.names_for(classes, background)
        words = self.head.words_for(classes, background)
        if self.cosine_processor is not None:
            self.cosine_processor.check_words(words.words)
        names = words.vocabulary.names
        return WordNames(
            vocabulary=words.vocabulary,
            dataset_meta=labels_metainfo(names, words.with_background),
            with_background=words.with_background,
            tagger=tagger,
            words=words,
            text=self.head.text(self.encoder, words).to(self.text.device),
        )

    def check_call(
        self, names: WordNames, background_level: float | None = None, **rule: Any
    ) -> TagRule | None:
        """See :meth:`TrainingFreeSegmentor.check_call`."""
        self._check_threshold(background_level)
        return super().check_call(names, background_level, **rule)

    def encode_group(
        self,
        images: Sequence[Tensor],
        samples: Sequence[SegDataSample],
        tagging: bool,
        keep: bool,
    ) -> tuple[Encoded | None, list[EncodedImage]]:
        """Encode one image; without ``keep``, :meth:`segment` encodes its windows."""
        (image,), (sample,) = images, samples
        tagged = encode_original(self.tagger, sample, self.max_side) if tagging else None
        whole = None
        if self._whole_grid is not None:
            assert self.encoder.last_block is not None
            pixels = torch.from_numpy(sample.original[..., ::-1].copy()).to(image.device)
            pixels = pixels.permute(2, 0, 1)[None].float() / 255
            whole = self.encoder.last_block.whole_features(pixels)
        encoded = EncodedImage.of(sample, image, tagged, None, whole)
        if keep:
            features = self._window_features if self.gatherer is None else self._gathered
            encoded = replace(encoded, features=features(encoded))
        return tagged, [encoded]

    def segment(
        self,
        encoded: EncodedImage,
        names: WordNames,
        tags: Sequence[Tag] | None,
        background_level: float | None,
        with_planes: bool,
    ) -> Masks:
        """Masks of one image; see :meth:`TrainingFreeSegmentor.segment`.

        Raises:
            ValueError: The features are not finite, or the image is smaller than a
                window.
        """
        rows = names.words.rows(None if tags is None else [tag.label for tag in tags])
        word_labels = [names.words.labels[row] for row in rows]
        if not rows:
            planes = self.text.new_zeros(0, *encoded.size)
            plane_labels: list[int] = []
        else:
            cosines = self._refined(encoded, names, rows)
            if not with_planes and self.post_processor is None:
                labels = self.head.best_labels(cosines, word_labels, encoded.size, background_level)
                return Masks(labels, None, sorted(set(word_labels)))
            planes, plane_labels = self.head.probabilities(cosines, word_labels, encoded.size)
            if self.post_processor is not None:
                planes = self.post_processor(planes, encoded.original)
            planes = self.head.rule_out(planes)
        labels = self.head.labels(planes, plane_labels, background_level)
        return Masks(labels, planes, plane_labels)

    def merge_views(self, logits: Sequence[Tensor]) -> Masks:
        """Masks from the mean probabilities of the views.

        Unlike those of CLS-SEG, the probabilities of all views are comparable and are not
        scaled, so ``background_threshold`` works as without augmentation.
        """
        mean = sum((one.exp() for one in logits), torch.zeros_like(logits[0])) / len(logits)
        every = list(range(len(mean)))
        return Masks(self.head.labels(mean, every), mean, every)

    def _refined(self, encoded: EncodedImage, names: WordNames, rows: Sequence[int]) -> Tensor:
        """Cosines ``(K, h, w)`` of an image with some words, of the original size if refined."""
        # All of them as they are: a choice is sent to the device, which the host waits for.
        text = names.text if len(rows) == len(names.text) else names.text[list(rows)]
        cosines = self._cosines(encoded, text)
        if self.cosine_processor is not None:
            words = names.words.words.phrases
            asked = Vocabulary(tuple(words[row] for row in rows))
            cosines = self.cosine_processor(cosines, encoded, text, asked)
        if self.logit_processor is not None:
            cosines = self.logit_processor(resize(cosines[None], encoded.size)[0], encoded.original)
        return cosines

    def _cosines(self, encoded: EncodedImage, text: Tensor) -> Tensor:
        """Cosines ``(K, h, w)`` of an image with ``(K, D)``, not flipped."""
        encode: Encode | None = None
        if encoded.features is not None:
            kept = iter(encoded.features)
            encode = lambda crops, companions: next(kept)  # noqa: E731

        def score(crops: Tensor, windows: Sequence[Window]) -> Tensor:
            companions = None if encode else companions_of(self.encoder, encoded, windows)
            return self.score(crops, text, companions, encode)

        if self.gatherer is None:
            cosines = self.windows(encoded.image, score)
        else:
            (features,) = encoded.features or self._gathered(encoded)
            cosines = self.features_cosines(features, text)[0]
        # One number: torch.isfinite of all would take 6 bytes more per pixel and word.
        if not torch.isfinite(cosines.sum(dtype=torch.float32)):
            raise ValueError(
                'the features are not finite: the weights are damaged, or the dtype '
                'is too narrow for them (try float32)'
            )
        return cosines if self.gatherer is not None else flip_back(cosines, encoded.flip)

    def _window_features(self, encoded: EncodedImage) -> list[DenseFeatures]:
        """Features of all windows and views of an image, in the order of :meth:`score`."""
        kept: list[DenseFeatures] = []

        def encode(crops: Tensor, companions: Companions | None) -> Tensor:
            features = self.encoder(crops, companions=companions)
            if self.patch_processor is None:  # no other part reads more than the patches
                none = features.patches.new_zeros(0)
                features = replace(features, last_input=none, class_token=none)
            kept.append(features)
            return features.patches.new_zeros(len(crops), 1, *features.grid)

        def encode_views(crops: Tensor, windows: Sequence[Window]) -> Tensor:
            companions = companions_of(self.encoder, encoded, windows)
            if self.views is None:
                return encode(crops, companions)
            return self.views(crops, encode, companions)

        self.windows(encoded.image, encode_views)
        return kept

    def _gathered(self, encoded: EncodedImage) -> list[DenseFeatures]:
        """Features of the whole image that the gatherer makes."""
        assert self.gatherer is not None
        return [self.gatherer(encoded, self.encoder, self.windows)]

    def _check_gatherer(self) -> None:
        if self.gatherer is not None and (
            not isinstance(self.windows, SlidingWindows)
            or self.windows.pad_to is not None
            or self.views is not None
            or self.patch_processor is not None
        ):
            raise ValueError(
                'a gatherer splices sliding windows: set windows to SlidingWindows without pad_to, '
                'and leave out views and patch_processor'
            )
        refinement = self.label_processor
        if not isinstance(refinement, SAMRefinement):
            return
        if refinement.patch_size is None:
            refinement.patch_size = self.encoder.patch_size
        if refinement.sam is None:
            if self.gatherer is None:
                raise ValueError('a SAMRefinement without a gatherer needs a SAM: set sam')
            refinement.sam = self.gatherer.sam

    def _check_pooling(self) -> None:
        pooling = self.encoder.pooling
        if pooling is not None and self.gatherer is not None:
            raise ValueError(
                'a gatherer takes the place of the pooling of the encoder: leave one of them out'
            )
        if self.head.objectness_threshold and (pooling is None or not pooling.objectness):
            raise ValueError(
                'objectness_threshold needs the objectness that the pooling of the encoder has '
                'learnt: set a pooling with objectness, or objectness_threshold=0'
            )
        if self.head.average == 'probabilities' and self.cosine_processor is not None:
            raise ValueError(
                "a cosine_processor changes cosines, and average='probabilities' leaves none: "
                "leave out the processor, or set average='cosines'"
            )

    def _check_threshold(self, threshold: float | None) -> None:
        if threshold and getattr(self.patch_processor, 'key_smoothing', 0):
            raise ValueError(
                'key_smoothing leaves no probabilities for a background_threshold: set it to 0'
            )

    def score(
        self,
        crops: Tensor,
        text: Tensor,
        companions: Companions | None = None,
        encode: Encode | None = None,
    ) -> Tensor:
        """Like :meth:`cosines`, merged over all views."""

        def view(crops: Tensor, companions: Companions | None) -> Tensor:
            return self.cosines(crops, text, companions, encode)

        return (
            view(crops, companions) if self.views is None else self.views(crops, view, companions)
        )

    def cosines(
        self,
        crops: Tensor,
        text: Tensor,
        companions: Companions | None = None,
        encode: Encode | None = None,
    ) -> Tensor:
        """Cosines ``(n, K, h, w)`` of the patches of ``(n, 3, H, W)`` with ``(K, D)``, refined.

        Args:
            crops: Normalised.
            text: Text features of the words.
            companions: What else is known of them.
            encode: Computes the features; the encoder if None.
        """
        if encode is None:
            features = self.encoder(crops, companions=companions)
        else:
            features = encode(crops, companions)
        return self.features_cosines(features, text)

    def features_cosines(self, features: DenseFeatures, text: Tensor) -> Tensor:
        """The same of features that are already there."""
        cosines = F.linear(features.patches, text)
        if self.patch_processor is not None:
            cosines = self.patch_processor(cosines, features, self.encoder)
        cosines = self.head.patch_scores(cosines, features.objectness)
        return cosines.transpose(1, 2).unflatten(2, features.grid)
