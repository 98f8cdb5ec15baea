"""CLS-SEG: classify, then segment; tags become masks without training (TagCLIP, sec. 3.5)."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.structures import PixelData
from mmseg.models.segmentors.seg_tta import SegTTAModel
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from ...clip import DenseFeatures, Vocabulary
from ...clip.vocabulary import load_integers
from ...labels import IGNORED
from ...registry import MODELS
from ..clip_encoder import CLIPEncoder
from ..maps import resize_map
from ..precision import full_precision
from ..taggers.heads import check_finite, relative_threshold
from ..taggers.tagger import TagCLIP, group_by_size, naming_images
from .affinity import AffinityRefinement
from .base import TAG_SOURCES, TrainingFreeSegmentor, build, check_sample, sample_tags
from .cam import SoftmaxGradCAM


@dataclass
class TagMaps:
    """What is known of one image before its masks are made.

    Attributes:
        labels: The T tags, as indices of the foreground classes.
        maps: ``(T, h, w)`` float32 refined CAMs in [0, 1].
        scores: The tags' scores; None where tags are not the tagger's own.
    """

    labels: list[int]
    maps: np.ndarray
    scores: list[float] | None = None


@MODELS.register_module()
class CLSSeg(TrainingFreeSegmentor):
    """A training-free segmentor: tags of an image, a CAM for each, spread along attention.

    Labels are 0 for the background and ``1 + c`` for class ``c``, or ``c``
    without a background. An image without tags is all background; without a
    background, all 255.

    Args:
        tagger: Config of the tagger. Its encoder serves both: the image is
            encoded once.
        prompts: Names of the same F classes that the CAMs are prompted with
            (``'voc_clsseg'``); the tagger's if None.
        background_prompts: Background names of the CAMs' softmax.
        templates: Prompt templates of the CAMs.
        cam: Config of the CAM generator; :class:`SoftmaxGradCAM` if None.
        affinity: Config of the affinity refinement.
        post_processor: Config of a post-processor (:class:`DenseCRF`,
            :class:`PAMR`), or None. It needs the original picture: put
            ``mmtagclip.KeepImage`` in the pipeline and ``'original'`` among
            PackSegInputs' ``meta_keys``.
        tags: Where tags come from: ``'own'`` (the tagger), ``'given'`` (the
            sample's ``tag_labels``, see ``mmtagclip.LoadTags``) or
            ``'ground_truth'`` (the sample's mask: the upper bound).
        with_background: Whether label 0 is background, ``(1 - max) **
            background_exponent``.
        background_exponent: See above; published: 1.
        label_map: Label of each foreground class where classes are merged into
            groups (``'cocostuff_groups'``): a built-in list, a file or a list;
            only without a background.
        groups: Names of the groups (``'cocostuff27'``): goes with ``label_map``.
        with_probabilities: Whether results carry ``probabilities``
            ``(1 + T, H, W)`` (background first, if there is one) and
            ``plane_labels``, the label of each.
        with_seg_logits: Whether results carry ``seg_logits`` ``(num_classes, H,
            W)``, logarithms of the probabilities; for averaging over
            augmentations.
        data_preprocessor: :class:`CLIPDataPreprocessor` if None.
        pretrained: Of no effect, but frameworks set it.
        train_cfg: Of no effect, but frameworks set it.
        test_cfg: Of no effect, but frameworks set it.
        init_cfg: Of no effect.

    Raises:
        ValueError: ``prompts`` or ``label_map`` of another number than the
            tagger's classes, or options that exclude each other.
    """

    def __init__(
        self,
        tagger: ConfigDict | dict | TagCLIP,
        affinity: ConfigDict | dict | AffinityRefinement,
        prompts: str | Sequence | None = None,
        background_prompts: str | Sequence = (),
        templates: str | Sequence[str] = 'templates_origami',
        cam: ConfigDict | dict | SoftmaxGradCAM | None = None,
        post_processor: ConfigDict | dict | nn.Module | None = None,
        tags: str = 'own',
        with_background: bool = True,
        background_exponent: float = 1.0,
        label_map: str | Sequence[int] | None = None,
        groups: str | Sequence | None = None,
        with_probabilities: bool = False,
        with_seg_logits: bool = False,
        data_preprocessor: ConfigDict | dict | nn.Module | None = None,
        pretrained: Any = None,
        train_cfg: Any = None,
        test_cfg: Any = None,
        init_cfg: dict | None = None,
    ) -> None:
        built: TagCLIP = build(tagger)
        names = built.vocabulary if groups is None else Vocabulary.load(groups)
        super().__init__(names.names, with_background, data_preprocessor, init_cfg)
        self.tagger = built
        self.cam: SoftmaxGradCAM = SoftmaxGradCAM() if cam is None else build(cam)
        self.affinity: AffinityRefinement = build(affinity)
        self.post_processor = build(post_processor)
        if tags not in TAG_SOURCES:
            raise ValueError(f"tags must be 'own', 'given' or 'ground_truth', not {tags!r}")
        if (label_map is None) != (groups is None):
            raise ValueError('label_map and groups belong together: give both or neither')
        if label_map is not None and (with_background or tags == 'ground_truth'):
            raise ValueError(
                'label_map merges classes into groups: it excludes a background and '
                'ground-truth tags'
            )
        self.tags = tags
        self.background_exponent = background_exponent
        self.with_probabilities = with_probabilities
        self.with_seg_logits = with_seg_logits

        self.templates = templates
        self.with_groups = label_map is not None
        if isinstance(label_map, str):
            label_map = load_integers(label_map)
        self._set_names(
            self.tagger.vocabulary if prompts is None else Vocabulary.load(prompts),
            Vocabulary.load(background_prompts),
            label_map,
        )

    @property
    def encoder(self) -> CLIPEncoder:
        """The tagger's encoder, which serves both."""
        return self.tagger.encoder

    def variant(
        self,
        classes: str | Sequence | None = None,
        background: str | Sequence | None = None,
        threshold: float | None = None,
    ) -> 'CLSSeg':
        """This segmentor with other names or another threshold for its tags.

        It shares the encoder with this one, which stays as it is; only names that
        were never asked for are encoded. What is None is as here.

        Args:
            classes: As in the tagger's constructor; the CAMs are prompted with the
                same names.
            background: Of the tagger and of the CAMs. If None, each keeps its own,
                without the names that are now classes.
            threshold: ``k`` of the relative threshold of the tags.

        Raises:
            ValueError: As the constructor does, or other classes for a segmentor
                that merges its own into groups.
        """
        other = copy.copy(self)
        # A copy of a module shares the dicts of its parts.
        other._buffers, other._modules = dict(self._buffers), dict(self._modules)
        other.tagger = self.tagger.variant(classes, background, threshold)
        if classes is not None or background is not None:
            if self.with_groups:
                raise ValueError(
                    'this segmentor merges its classes into groups, so it takes no '
                    'others; use one without label_map'
                )
            names = other.tagger.vocabulary
            behind = (
                self.background_prompts.without(names.names)
                if background is None
                else other.tagger.background
            )
            other.set_label_names(names.names, self.with_background)
            other._set_names(self.prompts if classes is None else names, behind)
        return other

    def _set_names(
        self,
        prompts: Vocabulary,
        background_prompts: Vocabulary,
        label_map: Sequence[int] | None = None,
    ) -> None:
        vocabulary = self.tagger.vocabulary
        self._check_count('prompts', prompts)
        if label_map is not None:
            self._check_count('label_map', label_map)
        self.prompts, self.background_prompts = prompts, background_prompts
        first = int(self.with_background)
        self.labels = np.asarray(
            range(first, first + len(vocabulary)) if label_map is None else label_map,
            dtype=np.int64,
        )
        encoder = self.tagger.encoder
        text = encoder.encode_names(prompts + background_prompts, self.templates)
        device = next(encoder.parameters()).device
        self.register_buffer('text', text.to(device), persistent=False)
        if not 0 <= self.labels.min() <= self.labels.max() < self.num_classes:
            raise ValueError(
                f'label_map has labels {self.labels.min()} to {self.labels.max()}, '
                f'but there are {self.num_classes} groups'
            )

    def predict(
        self, inputs: Sequence[Tensor] | Tensor, data_samples: list[SegDataSample] | None = None
    ) -> list[SegDataSample]:
        """Segment images.

        Each data sample gets ``pred_sem_seg`` ``(1, H, W)`` at the size of the
        original image, ``tag_labels``, ``tags`` (their names) and, where they are
        the tagger's own, ``tag_scores``, and what the options ask for. An
        image that could not be read (``load_error``) gets none of these.

        Args:
            inputs: Normalised images ``(3, H', W')``, of any sizes that the
                patch size divides.
            data_samples: One an image.

        Raises:
            ValueError: A sample lacks what the options need, or its mask has
                another size than its image; the message names the image.
        """
        if data_samples is None:
            data_samples = [
                SegDataSample(metainfo={'ori_shape': tuple(image.shape[1:])}) for image in inputs
            ]
        readable = [
            index for index, sample in enumerate(data_samples) if sample.get('load_error') is None
        ]
        samples = [data_samples[index] for index in readable]
        for sample in samples:
            check_sample(sample, self.tags, self.post_processor is not None)
        with naming_images(samples):
            maps = self.tag_maps([inputs[index] for index in readable], samples)
        for sample, image_maps in zip(samples, maps, strict=True):
            self._fill(sample, image_maps)
        return data_samples

    @torch.no_grad()
    @full_precision
    def tag_maps(
        self, inputs: Sequence[Tensor] | Tensor, data_samples: list[SegDataSample]
    ) -> list[TagMaps]:
        """Tags and refined CAMs, every image encoded once, equal sizes in one batch."""
        encoder, head = self.tagger.encoder, self.tagger.head
        own = self.tags == 'own'
        results: dict[int, TagMaps] = {}
        for group in group_by_size(inputs):
            batch = torch.stack([inputs[index] for index in group])
            layers = (*(head.attention_layers if own else ()), self.affinity.layers)
            features = encoder(batch, layers, own and head.needs_votes)
            if own:
                count = len(self.tagger.vocabulary)
                scores = head(features, batch, self.tagger.text, count, encoder).scores
                tags = [
                    one.nonzero().flatten().tolist()
                    for one in relative_threshold(scores, head.threshold)
                ]
                tag_scores = [
                    one[labels].tolist() for one, labels in zip(scores, tags, strict=True)
                ]
            else:
                check_finite(features)
                tags = [
                    sample_tags(
                        data_samples[index],
                        self.tags,
                        len(self.tagger.vocabulary),
                        self.with_background,
                    )
                    for index in group
                ]
                tag_scores = [None] * len(group)
            affinity = features.attention.mean(self.affinity.layers)
            for row, index in enumerate(group):
                results[index] = TagMaps(
                    tags[row],
                    self._refined_cams(
                        tags[row], features.last_input[row : row + 1], affinity[row], features.grid
                    ),
                    tag_scores[row],
                )
        return [results[index] for index in range(len(inputs))]

    @torch.no_grad()
    @full_precision
    def encoded_masks(
        self,
        features: DenseFeatures,
        labels: list[int],
        original: np.ndarray,
        background_exponent: float | None = None,
    ) -> SegDataSample:
        """Segment one image that is encoded already.

        Args:
            features: Of the image, with the mean map of the affinity's layers.
            labels: Its tags, as indices of the foreground classes.
            original: The image, ``(H, W, 3)`` uint8 BGR.
            background_exponent: This segmentor's if None.

        Returns:
            As :meth:`predict` fills it.
        """
        affinity = features.attention.mean(self.affinity.layers)[0]
        maps = self._refined_cams(labels, features.last_input, affinity, features.grid)
        sample = SegDataSample(metainfo={'ori_shape': original.shape[:2], 'original': original})
        other = copy.copy(self)
        if background_exponent is not None:
            other.background_exponent = background_exponent
        other._fill(sample, TagMaps(labels, maps))
        return sample

    def _forward(self, inputs: Any, data_samples: Any = None) -> Any:
        return [maps.maps for maps in self.tag_maps(inputs, data_samples)]

    def extract_feat(self, inputs: Tensor) -> Tensor:
        """Patch features ``(B, N, D)`` of normalised images of one size."""
        return self.tagger.encoder(inputs).patches

    def encode_decode(self, inputs: Any, batch_data_samples: Any) -> Any:
        """Refined CAMs of each image."""
        return self._forward(inputs, batch_data_samples)

    def _refined_cams(
        self, labels: list[int], last_input: Tensor, affinity: Tensor, grid: tuple[int, int]
    ) -> np.ndarray:
        if not labels:
            return np.zeros((0, *grid), dtype=np.float32)
        background = self.text[len(self.tagger.vocabulary) :]
        text = torch.cat([self.text[labels], background])
        cams = self.cam(last_input, text, len(labels), self.tagger.encoder)
        return self.affinity(cams, affinity, grid).unflatten(1, grid).cpu().numpy()

    def _fill(self, sample: SegDataSample, result: TagMaps) -> None:
        maps = result.maps
        if sample.get('flip'):
            maps = np.flip(maps, axis=2 if sample.flip_direction == 'horizontal' else 1)
        size = tuple(sample.ori_shape[:2])
        planes = (np.ascontiguousarray(one) for one in maps)
        resized = (resize_map(one, size) for one in planes)
        if self.post_processor is None and not self.with_probabilities and not self.with_seg_logits:
            index = self._running_argmax(resized, size)
        else:
            probabilities = self._probabilities(list(resized), size)
            if self.post_processor is not None and result.labels:
                probabilities = self.post_processor(
                    torch.from_numpy(probabilities), sample.original
                ).numpy()
            index = probabilities.argmax(axis=0) if len(probabilities) else np.full(size, -1)
            self._fill_probabilities(sample, probabilities, result.labels)
        # Row 0 of the table is the background where there is one; -1 is its last entry.
        table = [*self.plane_labels(result.labels), IGNORED]
        label = torch.from_numpy(np.asarray(table, dtype=np.int64)[index])
        sample.set_data({'pred_sem_seg': PixelData(data=label[None])})
        names = self.tagger.vocabulary.names
        sample.set_field(result.labels, 'tag_labels', field_type='metainfo')
        sample.set_field([names[c] for c in result.labels], 'tags', field_type='metainfo')
        if result.scores is not None:
            sample.set_field(result.scores, 'tag_scores', field_type='metainfo')

    def _running_argmax(self, planes: Any, size: tuple[int, int]) -> np.ndarray:
        """Index of the winning plane at each pixel, without holding all planes."""
        best = np.zeros(size, dtype=np.float32)
        index = np.full(size, -1, dtype=np.int64)
        first = int(self.with_background)
        for number, plane in enumerate(planes):
            above = plane > best if number else np.ones(size, dtype=bool)
            best[above] = plane[above]
            index[above] = number + first
        if self.with_background:
            index[(1 - best) ** self.background_exponent >= best] = 0
        return index

    def _probabilities(self, planes: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
        """``(1 + T, H, W)``, or ``(T, H, W)`` without a background."""
        tags = np.stack(planes) if planes else np.zeros((0, *size), dtype=np.float32)
        if not self.with_background:
            return tags
        background = (1 - tags.max(axis=0, initial=0)) ** self.background_exponent
        return np.concatenate([background[None], tags])

    def plane_labels(self, tags: list[int]) -> list[int]:
        """Label of each plane of an image's ``probabilities``, for its tags."""
        return [*([0] if self.with_background else []), *self.labels[tags].tolist()]

    def _fill_probabilities(
        self, sample: SegDataSample, probabilities: np.ndarray, labels: list[int]
    ) -> None:
        if self.with_probabilities:
            sample.set_data({'probabilities': PixelData(data=torch.from_numpy(probabilities))})
            sample.set_field(self.plane_labels(labels), 'plane_labels', field_type='metainfo')
        if self.with_seg_logits:
            height, width = probabilities.shape[1:]
            full = np.zeros((self.num_classes, height, width), dtype=np.float32)
            for target, plane in zip(self.plane_labels(labels), probabilities, strict=True):
                np.maximum(full[target], plane, out=full[target])
            logits = torch.from_numpy(full).clamp_(min=1e-12).log_()
            sample.set_data({'seg_logits': PixelData(data=logits)})

    def _check_count(self, key: str, values: Any) -> None:
        count = len(self.tagger.vocabulary)
        if len(values) != count:
            raise ValueError(
                f'{key} has {len(values)} entries for the {count} classes of the tagger'
            )


@MODELS.register_module()
class CLSSegTTA(SegTTAModel):
    """Mean over augmentations of what :class:`CLSSeg` sees; asks it for ``seg_logits``."""

    def __init__(self, module: Any, **kwargs: Any) -> None:
        super().__init__(module=module, **kwargs)
        self.module.with_seg_logits = True

    def merge_preds(self, data_samples_list: list[list[SegDataSample]]) -> list[SegDataSample]:
        """Merge the views of each image; where none has a tag or background, all is 255."""
        merged = super().merge_preds(data_samples_list)
        for views, sample in zip(data_samples_list, merged, strict=True):
            if not self.module.with_background and not any(view.tag_labels for view in views):
                sample.pred_sem_seg.data.fill_(IGNORED)
        return merged
