"""What training-free segmentors share: names of a call, tags of samples, results, refusals."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.structures import BaseDataElement, PixelData
from mmseg.models.segmentors import BaseSegmentor
from mmseg.models.segmentors.seg_tta import SegTTAModel
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from ...clip import DenseFeatures, Encoded, Names, Vocabulary
from ...labels import IGNORED, labels_metainfo
from ...registry import MODELS
from ..clip_encoder import CLIPEncoder
from ..precision import full_precision
from ..taggers.selection import Tag, TagRule
from ..taggers.tagger import TagCLIP, check_normalisation, naming_images, readable_samples
from ..taggers.thresholds import ClassThresholds

TAG_SOURCES = ('own', 'given', 'ground_truth')
LEAST = 1e-12  # probability whose logarithm stands for that of 0


@dataclass(frozen=True, eq=False)
class SegNames:
    """What a segmentor needs of the names of a call; :meth:`TrainingFreeSegmentor.names_for`.

    Attributes:
        vocabulary: The F classes.
        dataset_meta: ``classes``, the name of each label, and ``palette``, its RGB colour.
        with_background: Whether label 0 is the background.
        tagger: The tagger's names; None if the segmentor has no tagger.
    """

    vocabulary: Vocabulary
    dataset_meta: dict[str, Any]
    with_background: bool
    tagger: Names | None

    @property
    def background(self) -> Vocabulary:
        """The names that compete with the classes."""
        return Vocabulary(()) if self.tagger is None else self.tagger.background

    @property
    def num_labels(self) -> int:
        """Number of labels."""
        return len(self.dataset_meta['classes'])


N = TypeVar('N', bound=SegNames)


@dataclass(frozen=True, eq=False)
class EncodedImage:
    """One image, encoded for a segmentor; see :meth:`TrainingFreeSegmentor.encode`.

    Attributes:
        size: ``(H, W)`` of the original image, in pixels.
        original: ``(H, W, 3)`` uint8 BGR; None if no part needs it.
        flip: How the encoded image was flipped: ``'horizontal'``, ``'vertical'``,
            ``'diagonal'``, or None.
        image: ``(3, H', W')``, normalised; None if it stands for several views, whose masks
            were merged.
        tagging: What the tagger's head scores; None without a tagger, or if tags come
            from elsewhere.
        features: Features of each batch of the image that was encoded, in order; None if
            they are not kept.
        regions: ``(H, W)`` integers at the original size, not flipped: the region of each pixel;
            0 is no region. None if no part needs them.
        whole: ``(C', h', w')``, another model's features of the original image, not flipped; None
            if no part needs them.
        memo: What parts computed of the image and may use again.
    """

    size: tuple[int, int]
    original: np.ndarray | None
    flip: str | None
    image: Tensor | None
    tagging: Encoded | None
    features: Sequence[DenseFeatures] | None
    regions: np.ndarray | None = None
    whole: Tensor | None = None
    memo: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        sample: SegDataSample,
        image: Tensor | None = None,
        tagging: Encoded | None = None,
        features: Sequence[DenseFeatures] | None = None,
        whole: Tensor | None = None,
    ) -> 'EncodedImage':
        """An image with the data of its sample."""
        return cls(
            size=tuple(sample.ori_shape[:2]),
            original=sample.get('original'),
            flip=sample.flip_direction if sample.get('flip') else None,
            image=image,
            tagging=tagging,
            features=features,
            regions=sample.get('regions'),
            whole=whole,
        )


class Found(NamedTuple):
    """What an image shows.

    Attributes:
        tags: In the order of the classes; None to look for all classes.
        scores: ``(F,)`` of every class; None if there are no scores.
    """

    tags: Sequence[Tag] | None
    scores: Tensor | None = None


@dataclass
class Masks:
    """The masks of one image.

    Attributes:
        labels: ``(H, W)`` int64; 255 is no label.
        planes: ``(P, H, W)`` probabilities; None if they were not requested.
        plane_labels: The P labels.
        more: Further fields of the image's data sample, by name: data elements, or values of
            its metainfo.
    """

    labels: Tensor
    planes: Tensor | None
    plane_labels: list[int]
    more: dict[str, Any] = field(default_factory=dict)


class LabelProcessor(nn.Module):
    """Base class of the last step of a segmentor, which changes the labels of an image.

    Attributes:
        needs_original: Whether it needs ``original`` of the image.
        needs_planes: Whether it needs the planes of the masks.
        needs_regions: Whether it needs ``regions`` of the image.
    """

    needs_original = False
    needs_planes = False
    needs_regions = False

    def forward(self, masks: Masks, image: EncodedImage) -> Tensor:
        """Change the labels.

        Args:
            masks: The masks, at the original size.
            image: The image.

        Returns:
            ``(H, W)`` int64.
        """
        raise NotImplementedError


class TrainingFreeSegmentor(BaseSegmentor, Generic[N]):
    """A segmentor of MMSegmentation that has nothing to train.

    A derived class has an ``encoder`` and a ``tagger`` (or None), calls :meth:`set_own` with
    the names that it was built with, and implements :attr:`names`, :meth:`names_for`,
    :meth:`encode_group` and :meth:`segment`.

    Args:
        tags: Where tags come from, one of ``TAG_SOURCES``, or None to look for all
            classes.
        with_probabilities: Whether results carry ``probabilities`` ``(P, H, W)`` and
            ``plane_labels``, the label of each.
        with_seg_logits: Whether results carry ``seg_logits`` ``(labels, H, W)``, logarithms
            of the probabilities; for averaging over augmentations.
        data_preprocessor: :class:`CLIPDataPreprocessor` if None.
        init_cfg: Ignored.
        label_processor: Config of the last step, on the labels, a :class:`LabelProcessor`
            (:class:`MapCorrection`, :class:`LabelClosing`), or None.

    Raises:
        ValueError: ``tags`` is anything else.
    """

    encoder: CLIPEncoder
    tagger: TagCLIP | None
    tags_needed = True  # whether there must be a source of tags
    tagger_sees_original = False  # or the same image as the segmentor

    def __init__(
        self,
        tags: str | None,
        with_probabilities: bool = False,
        with_seg_logits: bool = False,
        data_preprocessor: ConfigDict | dict | nn.Module | None = None,
        init_cfg: dict | None = None,
        label_processor: ConfigDict | dict | LabelProcessor | None = None,
    ) -> None:
        if data_preprocessor is None:
            data_preprocessor = {'type': 'mmtagclip.CLIPDataPreprocessor'}
        super().__init__(data_preprocessor, init_cfg)
        if tags not in TAG_SOURCES and (self.tags_needed or tags is not None):
            none = '' if self.tags_needed else ', or None'
            raise ValueError(f'tags must be one of {", ".join(TAG_SOURCES)}{none}, not {tags!r}')
        self.tags = tags
        self.with_probabilities = with_probabilities
        self.with_seg_logits = with_seg_logits
        self.align_corners = False  # read by test-time augmentation
        self.label_processor: LabelProcessor | None = build(label_processor)

    def set_own(self, names: Sequence[str], with_background: bool) -> None:
        """Name the labels; checks what the parts must agree on.

        Args:
            names: Of the labels, without the background.
            with_background: Whether label 0 is the background and the names follow from 1.

        Raises:
            ValueError: Images are not normalised as in the encoder's training.
        """
        check_normalisation(self.encoder, self.data_preprocessor)
        self.with_background = with_background
        self._dataset_meta = labels_metainfo(names, with_background)
        # Read by test-time augmentation and by inferencers.
        self.num_classes = self.out_channels = len(self._dataset_meta['classes'])

    @property
    def dataset_meta(self) -> dict[str, Any]:
        """``classes``, the name of each label, and ``palette``, its RGB colour.

        The names are the segmentor's own and can't be changed: mmseg's inferencer, which
        gives every model without a checkpoint those of Cityscapes, has no effect on them.
        Other colours can be set together with the same names.
        """
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, meta: dict[str, Any]) -> None:
        if list(meta['classes']) == list(self._dataset_meta['classes']):
            self._dataset_meta = dict(meta)

    # Names

    @property
    @abstractmethod
    def names(self) -> N:
        """The segmentor's own names, which a call may replace by those of :meth:`names_for`."""

    @abstractmethod
    def names_for(
        self,
        classes: str | Sequence | Vocabulary | None = None,
        background: str | Sequence | Vocabulary | None = None,
    ) -> N:
        """Other names for a call; the segmentor's own stay as they are.

        The encoder is the same, and only new names are encoded. Arguments left as None keep
        the segmentor's value.

        Args:
            classes: The classes to find; see :meth:`mmtagclip.clip.Vocabulary.load`.
            background: The names that compete with them, for the tagger too, given in the
                same ways. If None, each part keeps its own, without the names that are now
                classes.

        Raises:
            ValueError: As in the constructor, or the segmentor can't take other names.
        """

    # The steps

    @abstractmethod
    def encode_group(
        self,
        images: Sequence[Tensor],
        samples: Sequence[SegDataSample],
        tagging: bool,
        keep: bool,
    ) -> tuple[Encoded | None, list[EncodedImage]]:
        """Encode a group of images from :meth:`batches`.

        Args:
            images: ``(3, H', W')``, normalised.
            samples: One per image.
            tagging: Whether to encode for the tagger too.
            keep: Whether masks of other names must be possible without the encoder.

        Returns:
            What the tagger's head scores, all images in one batch (None without
            ``tagging``), and each image.
        """

    @abstractmethod
    def segment(
        self,
        encoded: EncodedImage,
        names: N,
        tags: Sequence[Tag] | None,
        background_level: float | None,
        with_planes: bool,
    ) -> Masks:
        """Masks of one image.

        Args:
            encoded: The image.
            names: The names of the call.
            tags: The classes to look for; all if None.
            background_level: See :meth:`predict`.
            with_planes: Whether the probabilities are wanted.
        """

    def batches(self, images: Sequence[Tensor]) -> list[list[int]]:
        """Indices of the images that are encoded together; here each image alone."""
        return [[index] for index in range(len(images))]

    @property
    def needs_original(self) -> bool:
        """Whether masks need the original image."""
        return self.label_processor is not None and self.label_processor.needs_original

    @property
    def needs_regions(self) -> bool:
        """Whether masks need the regions of the image."""
        return self.label_processor is not None and self.label_processor.needs_regions

    # What a user calls

    def predict(
        self,
        inputs: Sequence[Tensor] | Tensor,
        data_samples: list[SegDataSample] | None = None,
        names: N | None = None,
        threshold: float | None = None,
        min_score: float | None = None,
        top: int | None = None,
        background_level: float | None = None,
        thresholds: ClassThresholds | None = None,
    ) -> list[SegDataSample]:
        """Segment images.

        Each data sample gets ``pred_sem_seg`` ``(1, H, W)`` int64 at the size of the
        original image, and what the options request. If tags decide which classes are
        looked for, it also gets ``tag_labels``, ``tags`` (their names) and, if known,
        ``tag_scores``, in the order of the classes; and with the segmentor's own tagger
        ``class_scores``, the score of every class by its name. An image that could not be read
        (``load_error``) gets none of these.

        Args:
            inputs: Normalised images ``(3, H', W')``.
            data_samples: One per image.
            names: Of :meth:`names_for`; the segmentor's own if None.
            threshold: ``k`` of the tagger's relative threshold; its own if None.
            min_score: Lowest score of a tag; the tagger's own if None.
            top: Most tags of an image; the tagger's own if None.
            background_level: Pixels where no class is above this, in (0, 1), become
                background; if None, the segmentor's own options decide.
            thresholds: Of single classes; the tagger's own if None.

        Raises:
            ValueError: An option is unsupported by this segmentor, a sample lacks what the
                options need, its mask and its image differ in size, or the image is
                smaller than a window; the message names the image.
        """
        names = self.names if names is None else names
        options = {'threshold': threshold, 'min_score': min_score, 'top': top}
        rule = self.check_call(names, background_level, **options, thresholds=thresholds)
        if data_samples is None:
            data_samples = [
                SegDataSample(metainfo={'ori_shape': tuple(image.shape[1:])}) for image in inputs
            ]
        readable = readable_samples(data_samples)
        own = self.tags == 'own'
        for index in readable:
            self.check_sample(data_samples[index], self.tags, own)
        for places in self.batches([inputs[index] for index in readable]):
            group = [readable[place] for place in places]
            samples = [data_samples[index] for index in group]
            with naming_images(samples):
                tagging, images = self._encode(
                    [inputs[index] for index in group], samples, own, False
                )
                tags = self._find_tags(tagging, samples, names, rule)
            for sample, image, found in zip(samples, images, tags, strict=True):
                with naming_images([sample]):
                    self._fill(sample, image, names, found, background_level)
        return data_samples

    def encode(
        self,
        image: Tensor,
        original: np.ndarray | None = None,
        size: tuple[int, int] | None = None,
        regions: np.ndarray | None = None,
    ) -> EncodedImage:
        """Encode one image once, for :meth:`masks` and for the tagger's head.

        If the segmentor has a tagger, ``tagger.head(encoded.tagging, names.tagger)`` returns
        the tags' scores.

        Args:
            image: ``(3, H', W')``, normalised by the segmentor's data preprocessor, of a
                size that its pipeline makes.
            original: ``(H, W, 3)`` uint8 BGR; needed if :attr:`needs_original`, and by the
                tagger of a :class:`DirectSegmentor`.
            size: ``(H, W)`` of the masks; if None, that of the original, or of the image if
                there is no original.
            regions: ``(H, W)`` integers of that size, the region of each pixel, 0 for none; needed
                if :attr:`needs_regions`.

        Raises:
            ValueError: As in :meth:`predict`.
        """
        if size is None:
            height, width = image.shape[1:] if original is None else original.shape[:2]
            size = (height, width)
        sample = SegDataSample(metainfo={'ori_shape': size})
        if original is not None:
            sample.set_metainfo({'original': original})
        if regions is not None:
            sample.set_metainfo({'regions': regions})
        tagging = self.tagger is not None
        self.check_sample(sample, None, tagging)
        _, (encoded,) = self._encode([image], [sample], tagging, True)
        return encoded

    def masks(
        self,
        encoded: EncodedImage,
        names: N | None = None,
        tags: Sequence[Tag] | None = None,
        background_level: float | None = None,
    ) -> SegDataSample:
        """Masks of an encoded image; the encoder runs only for the crops of CWR.

        Args:
            encoded: Of :meth:`encode`.
            names: Of :meth:`names_for`; the segmentor's own if None.
            tags: The classes to look for, as indices of the names' classes, with scores or
                None; if None, those of the tagger, or all classes if there is no tagger.
            background_level: See :meth:`predict`.

        Returns:
            A data sample with the same fields as in :meth:`predict`.

        Raises:
            ValueError: An option is unsupported by this segmentor.
        """
        names = self.names if names is None else names
        rule = self.check_call(names, background_level)
        sample = SegDataSample(metainfo={'ori_shape': encoded.size})
        found = Found(tags)
        if tags is None and encoded.tagging is not None:
            (found,) = self._own_tags(encoded.tagging, names, rule)
        self._fill(sample, encoded, names, found, background_level)
        return sample

    # Refusals

    def check_call(
        self, names: N, background_level: float | None = None, **rule: Any
    ) -> TagRule | None:
        """Refuse options of a call that this segmentor does not support; see :meth:`predict`.

        Args:
            names: The names of the call.
            background_level: See :meth:`predict`.
            **rule: Attributes of :class:`TagRule`, as :meth:`TagRule.but` takes them.

        Returns:
            The rule of the tagger's tags in this call; None if there is no tagger.

        Raises:
            TypeError: An option of another type.
            ValueError: An option is out of range or unsupported.
        """
        if background_level is not None:
            if not 0 < background_level < 1:
                raise ValueError(f'the background level must be in (0, 1), not {background_level}')
            if not names.with_background:
                raise ValueError(
                    f'this {type(self).__name__} has no background, so it takes no background level'
                )
        if self.tagger is not None:
            return self.tagger.rule_of(names.tagger, **rule)
        given = [key for key, value in rule.items() if value is not None]
        if given:
            raise ValueError(
                f'this {type(self).__name__} has no tagger, so it takes no {given[0]} of tags'
            )
        return None

    def check_sample(self, sample: SegDataSample, tags: str | None, tagging: bool) -> None:
        """Refuse a sample that lacks what the options need.

        Args:
            sample: The sample of one image.
            tags: Where its tags come from: one of ``TAG_SOURCES``, or None.
            tagging: Whether the tagger sees the image.

        Raises:
            ValueError: The sample lacks something, or its mask and its image differ in
                size; the message names the image.
        """
        path = sample.get('img_path', 'an image')
        size = tuple(sample.ori_shape[:2])
        if 'gt_sem_seg' in sample and tuple(sample.gt_sem_seg.shape) != size:
            raise ValueError(
                f'{path} is {size[1]}x{size[0]} pixels, but its mask '
                f'{sample.get("seg_map_path")} is '
                f'{sample.gt_sem_seg.shape[1]}x{sample.gt_sem_seg.shape[0]}'
            )
        if (
            self.needs_original or (tagging and self.tagger_sees_original)
        ) and 'original' not in sample:
            raise ValueError(
                f'{path}: {"a processor" if self.needs_original else "the tagger"} needs '
                'the original image; put mmtagclip.KeepImage after the loading transform and '
                "'original' among PackSegInputs' meta_keys"
            )
        if self.needs_regions and 'regions' not in sample:
            raise ValueError(
                f'{path}: the segmentor needs the regions of the image; put mmtagclip.LoadRegions '
                "after the loading transform and 'regions' among PackSegInputs' meta_keys"
            )
        if 'regions' in sample and sample.regions.shape != size:
            height, width = sample.regions.shape
            raise ValueError(
                f'{path} is {size[1]}x{size[0]} pixels, but its regions are {width}x{height}'
            )
        if tags == 'given' and 'tag_labels' not in sample:
            raise ValueError(
                f"{path}: tags='given' needs mmtagclip.LoadTags in the pipeline and "
                "'tag_labels' among PackSegInputs' meta_keys"
            )
        if tags == 'ground_truth' and 'gt_sem_seg' not in sample:
            raise ValueError(
                f"{path}: tags='ground_truth' needs a mask; put LoadAnnotations in the pipeline"
            )

    def loss(self, inputs: Any, data_samples: Any) -> Any:
        """There is nothing to train.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError(
            f'{type(self).__name__} is training-free: there is nothing to '
            'train. Evaluate it with tools/test.py'
        )

    # What frameworks call

    def extract_feat(self, inputs: Tensor) -> Tensor:
        """Patch features ``(B, N, D)`` of normalised images of one size."""
        return self.encoder(inputs).patches

    def encode_decode(self, inputs: Any, batch_data_samples: Any) -> Any:
        """Labels ``(H, W)`` of each image."""
        return self._forward(inputs, batch_data_samples)

    def _forward(self, inputs: Any, data_samples: Any = None) -> Any:
        return [sample.pred_sem_seg.data[0] for sample in self.predict(inputs, data_samples)]

    def merge_views(self, logits: Sequence[Tensor]) -> Masks:
        """Masks of an image from the ``seg_logits`` of its augmented views."""
        total = sum((one.softmax(dim=0) for one in logits), torch.zeros_like(logits[0]))
        mean = total / len(logits)
        return Masks(mean.argmax(dim=0), mean, list(range(len(mean))))

    def processed(self, masks: Masks, image: EncodedImage) -> Tensor:
        """Labels ``(H, W)`` of masks after the ``label_processor``."""
        return masks.labels if self.label_processor is None else self.label_processor(masks, image)

    # Inside

    @torch.no_grad()
    @full_precision
    def _encode(self, *args: Any) -> tuple[Encoded | None, list[EncodedImage]]:
        return self.encode_group(*args)

    @torch.no_grad()
    @full_precision
    def _own_tags(self, tagging: Encoded, names: N, rule: TagRule | None) -> list[Found]:
        assert self.tagger is not None
        assert names.tagger is not None
        assert rule is not None
        scores = self.tagger.head(tagging, names.tagger).scores
        return [Found(rule.tags(one), one) for one in scores]

    def _find_tags(
        self,
        tagging: Encoded | None,
        samples: Sequence[SegDataSample],
        names: N,
        rule: TagRule | None,
    ) -> list[Found]:
        """What each image of a group shows."""
        if tagging is not None:
            return self._own_tags(tagging, names, rule)
        if self.tags is None:
            return [Found(None)] * len(samples)
        return [
            Found(sample_tags(sample, self.tags, len(names.vocabulary), names.with_background))
            for sample in samples
        ]

    @torch.no_grad()
    @full_precision
    def _fill(
        self,
        sample: SegDataSample,
        encoded: EncodedImage,
        names: N,
        found: Found,
        background_level: float | None,
    ) -> None:
        with_planes = self.with_probabilities or self.with_seg_logits
        if self.label_processor is not None:
            with_planes = with_planes or self.label_processor.needs_planes
        tags = found.tags
        masks = self.segment(encoded, names, tags, background_level, with_planes)
        sample.set_data({'pred_sem_seg': PixelData(data=self.processed(masks, encoded)[None])})
        if self.with_probabilities:
            sample.set_data({'probabilities': PixelData(data=masks.planes)})
            sample.set_field(masks.plane_labels, 'plane_labels', field_type='metainfo')
        if self.with_seg_logits and masks.planes is not None:
            logits = seg_logits(masks.planes, masks.plane_labels, names.num_labels)
            sample.set_data({'seg_logits': PixelData(data=logits)})
        for key, value in masks.more.items():
            kind = 'data' if isinstance(value, BaseDataElement) else 'metainfo'
            sample.set_field(value, key, field_type=kind)
        if tags is not None:
            fields: dict[str, Any] = {
                'tag_labels': [tag.label for tag in tags],
                'tags': [names.vocabulary.names[tag.label] for tag in tags],
            }
            if all(tag.score is not None for tag in tags):
                fields['tag_scores'] = [tag.score for tag in tags]
            if found.scores is not None:
                scores = found.scores.tolist()
                fields['class_scores'] = dict(zip(names.vocabulary.names, scores, strict=True))
            for key, value in fields.items():
                sample.set_field(value, key, field_type='metainfo')


@MODELS.register_module()
class TrainingFreeTTA(SegTTAModel):
    """Test-time augmentation of a training-free segmentor: the mean of its ``seg_logits``."""

    def __init__(self, module: Any, **kwargs: Any) -> None:
        super().__init__(module=module, **kwargs)
        self.module.with_seg_logits = True

    def merge_preds(self, data_samples_list: list[list[SegDataSample]]) -> list[SegDataSample]:
        """Merge the views of each image; all pixels are 255 without tags and background."""
        merged = []
        for views in data_samples_list:
            masks = self.module.merge_views([view.seg_logits.data for view in views])
            labels = self.module.processed(masks, EncodedImage.of(views[-1]))
            if not self.module.with_background and all(
                view.get('tag_labels') == [] for view in views
            ):
                labels.fill_(IGNORED)
            sample = views[-1]
            sample.set_data({'pred_sem_seg': PixelData(data=labels[None])})
            if 'gt_sem_seg' in views[0]:
                sample.set_data({'gt_sem_seg': views[0].gt_sem_seg})
            merged.append(sample)
        return merged


@MODELS.register_module()
class CLSSegTTA(TrainingFreeTTA):
    """An earlier name of :class:`TrainingFreeTTA`."""


def seg_logits(planes: Tensor, plane_labels: Sequence[int], count: int) -> Tensor:
    """Logarithms ``(count, H, W)`` of the probabilities of all labels.

    Args:
        planes: ``(P, H, W)`` probabilities; if a label has several planes, the greatest counts.
        plane_labels: Label of each.
        count: Number of labels.
    """
    full = planes.new_zeros(count, *planes.shape[1:])
    for label, plane in zip(plane_labels, planes, strict=True):
        torch.maximum(full[label], plane, out=full[label])
    return full.clamp_(min=LEAST).log_()


def sample_tags(sample: SegDataSample, tags: str, count: int, with_background: bool) -> list[Tag]:
    """Tags that a sample contains, or those of its mask.

    Args:
        sample: The sample of one image.
        tags: ``'given'`` or ``'ground_truth'``.
        count: Number of classes.
        with_background: Whether value 0 of the mask is the background.

    Returns:
        The tags, without scores, in the order of the classes.

    Raises:
        ValueError: An index is out of range; the message names the image.
    """
    if tags == 'given':
        labels = [int(label) for label in sample.tag_labels]
        kind = 'tag'
    else:
        values = torch.unique(sample.gt_sem_seg.data).tolist()
        first = int(with_background)
        labels = [
            value - first for value in values if value != IGNORED and not (first and value == 0)
        ]
        kind = 'mask value'
    bad = [label for label in labels if not 0 <= label < count]
    if bad:
        raise ValueError(
            f'{sample.get("img_path", "an image")} has the {kind} {bad[0]}, but '
            f'there are {count} classes'
        )
    return [Tag(label, None) for label in sorted(set(labels))]


def build(part: Any) -> Any:
    """Build a part from its config; a part that is built already is returned unchanged."""
    return MODELS.build(part) if isinstance(part, dict) else part
