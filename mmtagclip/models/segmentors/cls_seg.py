"""CLS-SEG: classify, then segment; tags become masks without training (TagCLIP, sec. 3.5)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from ...clip import Encoded, Names, Vocabulary
from ...clip.vocabulary import load_integers
from ...labels import IGNORED, labels_metainfo, row_blocks
from ...registry import MODELS
from ..clip_encoder import CLIPEncoder
from ..maps import flip_back, resize_map
from ..taggers.heads import check_finite
from ..taggers.selection import Tag
from ..taggers.tagger import TagCLIP, check_layers, group_by_size
from .affinity import AffinityRefinement
from .base import EncodedImage, LabelProcessor, Masks, SegNames, TrainingFreeSegmentor, build
from .cam import SoftmaxGradCAM, SurgeryCAM


@dataclass(frozen=True, eq=False)
class CAMNames(SegNames):
    """The names of a call of :class:`CLSSeg`.

    Attributes:
        cam: The prompts of the CAMs, for the same F classes, and their background.
        labels: ``(F,)`` int64, label of each class.
    """

    cam: Names
    labels: np.ndarray


@MODELS.register_module()
class CLSSeg(TrainingFreeSegmentor[CAMNames]):
    """A training-free segmentor: tags of an image, a CAM for each, spread along attention.

    Labels are 0 for the background and ``1 + c`` for class ``c``, or ``c``
    without a background. An image without tags is all background; without a
    background, all 255.

    Args:
        tagger: Config of the tagger. Its encoder serves both: the image is
            encoded once.
        prompts: Names of the same F classes for the CAMs (``'voc_clsseg'``); the
            tagger's if None.
        background_prompts: Background names of the CAMs' softmax.
        templates: Prompt templates of the CAMs.
        cam: Config of the CAM generator: :class:`SoftmaxGradCAM`, as published, which is the
            default, or :class:`SurgeryCAM`.
        affinity: Config of the affinity refinement.
        post_processor: Config of a post-processor (:class:`DenseCRF`,
            :class:`PAMR`, :class:`PAR`), or None. It needs the original image: put
            ``mmtagclip.KeepImage`` in the pipeline and ``'original'`` among
            PackSegInputs' ``meta_keys``.
        label_processor: See :class:`TrainingFreeSegmentor`.
        tags: Where tags come from: ``'own'`` (the tagger), ``'given'`` (the
            sample's ``tag_labels``, see ``mmtagclip.LoadTags``) or
            ``'ground_truth'`` (the sample's mask: the upper bound).
        with_background: Whether label 0 is background, ``(1 - max) **
            background_exponent``.
        background_exponent: Exponent in that formula; published: 1.
        label_map: Label of each foreground class where classes are merged into
            groups (``'cocostuff_groups'``): a built-in list, a file or a list;
            only without a background.
        groups: Names of the groups (``'cocostuff27'``); required with
            ``label_map``.
        with_probabilities: Whether results carry ``probabilities``
            ``(1 + T, H, W)`` (background first, if there is one) and
            ``plane_labels``, the label of each.
        with_seg_logits: Whether results carry ``seg_logits`` ``(num_classes, H,
            W)``, logarithms of the probabilities; for averaging over
            augmentations.
        data_preprocessor: :class:`CLIPDataPreprocessor` if None.
        pretrained: Ignored; frameworks set it.
        train_cfg: Ignored; frameworks set it.
        test_cfg: Ignored; frameworks set it.
        init_cfg: Ignored.

    Raises:
        ValueError: ``prompts`` or ``label_map`` has another length than the
            tagger's classes, or options exclude each other.
    """

    def __init__(
        self,
        tagger: ConfigDict | dict | TagCLIP,
        affinity: ConfigDict | dict | AffinityRefinement,
        prompts: str | Sequence | None = None,
        background_prompts: str | Sequence = (),
        templates: str | Sequence[str] = 'templates_origami',
        cam: ConfigDict | dict | SoftmaxGradCAM | SurgeryCAM | None = None,
        post_processor: ConfigDict | dict | nn.Module | None = None,
        label_processor: ConfigDict | dict | LabelProcessor | None = None,
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
        super().__init__(
            tags, with_probabilities, with_seg_logits, data_preprocessor, init_cfg, label_processor
        )
        self.tagger: TagCLIP = built
        self.cam: SoftmaxGradCAM | SurgeryCAM = SoftmaxGradCAM() if cam is None else build(cam)
        self.affinity: AffinityRefinement = build(affinity)
        self.cam.set_encoder(self.encoder)
        self.affinity.set_depth(self.encoder.num_blocks)
        check_layers('the affinity', self.affinity.layers, self.encoder)
        self.post_processor = build(post_processor)
        if (label_map is None) != (groups is None):
            raise ValueError('label_map and groups belong together: give both or neither')
        if label_map is not None and (with_background or tags == 'ground_truth'):
            raise ValueError(
                'label_map merges classes into groups: it excludes a background and '
                'ground-truth tags'
            )
        self.groups = None if groups is None else Vocabulary.load(groups)
        self.label_map = load_integers(label_map) if isinstance(label_map, str) else label_map
        self.background_exponent = background_exponent
        self.templates = templates
        self.prompts = built.classes if prompts is None else Vocabulary.load(prompts)
        self.background_prompts = Vocabulary.load(background_prompts)
        self.set_own((self.groups or built.classes).names, with_background)
        own = self._cam_names(
            built.names, self.prompts, self.background_prompts, self.label_map, self.dataset_meta
        )
        self.labels = own.labels
        self.register_buffer('text', own.cam.text, persistent=False)

    @property
    def encoder(self) -> CLIPEncoder:  # type: ignore[override]
        """The encoder of the tagger, used for tags and masks."""
        return self.tagger.encoder

    @property
    def needs_original(self) -> bool:
        """Whether a processor needs the original image."""
        return self.post_processor is not None or super().needs_original

    @property
    def names(self) -> CAMNames:
        """The segmentor's own names, which a call may replace by those of :meth:`names_for`."""
        return CAMNames(
            vocabulary=self.tagger.vocabulary,
            dataset_meta=self.dataset_meta,
            with_background=self.with_background,
            tagger=self.tagger.names,
            cam=Names(self.prompts, self.background_prompts, self.text),
            labels=self.labels,
        )

    def names_for(
        self,
        classes: str | Sequence | Vocabulary | None = None,
        background: str | Sequence | Vocabulary | None = None,
    ) -> CAMNames:
        """See :meth:`TrainingFreeSegmentor.names_for`; CAMs are prompted with the same names.

        Raises:
            ValueError: As in the constructor, or the segmentor merges its classes into
                groups.
        """
        tagger = self.tagger.names_for(classes, background)
        if classes is None and background is None:
            return self.names
        if self.groups is not None:
            raise ValueError(
                'this segmentor merges its classes into groups, so it takes no '
                'other classes; use one without label_map'
            )
        names = tagger.vocabulary
        return self._cam_names(
            tagger,
            self.prompts if classes is None else names,
            self.background_prompts.without(names) if background is None else tagger.background,
            None,
            labels_metainfo(names.names, self.with_background),
        )

    def _cam_names(
        self,
        tagger: Names,
        prompts: Vocabulary,
        background: Vocabulary,
        label_map: Sequence[int] | None,
        meta: dict[str, Any],
    ) -> CAMNames:
        first, count = int(self.with_background), tagger.num_foreground
        labels = range(first, first + count) if label_map is None else label_map
        for key, values in (('prompts', prompts), ('label_map', labels)):
            if len(values) != count:
                raise ValueError(
                    f'{key} has {len(values)} entries for the {count} classes of the tagger'
                )
        if not 0 <= min(labels) <= max(labels) < len(meta['classes']):
            raise ValueError(
                f'label_map has labels {min(labels)} to {max(labels)}, '
                f'but there are {len(meta["classes"])} groups'
            )
        cam = self.encoder.names(prompts, background, self.templates)
        return CAMNames(
            vocabulary=tagger.vocabulary,
            dataset_meta=meta,
            with_background=self.with_background,
            tagger=tagger,
            cam=cam,
            labels=np.asarray(labels, dtype=np.int64),
        )

    def batches(self, images: Sequence[Tensor]) -> list[list[int]]:
        """Indices of the images that are encoded together; here those of one size."""
        return group_by_size(images)

    def encode_group(
        self,
        images: Sequence[Tensor],
        samples: Sequence[SegDataSample],
        tagging: bool,
        keep: bool,
    ) -> tuple[Encoded | None, list[EncodedImage]]:
        """Encode images of one size, once for tags and CAMs."""
        batch, layers = torch.stack(list(images)), tuple(self.affinity.layer_sets)
        inputs = self.cam.block_inputs
        encoded = (
            self.tagger.encode(batch, layers, inputs)
            if tagging
            else Encoded(self.encoder(batch, layers, inputs=inputs), batch, self.encoder)
        )
        check_finite(encoded.features)
        found = []
        for row, sample in enumerate(samples):
            one = encoded[row]
            found.append(
                EncodedImage.of(sample, images[row], one if tagging else None, (one.features,))
            )
        return encoded if tagging else None, found

    def segment(
        self,
        encoded: EncodedImage,
        names: CAMNames,
        tags: Sequence[Tag] | None,
        background_level: float | None,
        with_planes: bool,
    ) -> Masks:
        """Masks of the tags of one image; see :meth:`TrainingFreeSegmentor.segment`."""
        if tags is None:
            tags = [Tag(label, None) for label in range(len(names.vocabulary))]
        labels = [tag.label for tag in tags]
        exponent = self.background_exponent
        if background_level is not None:
            # At this level (1 - m) ** exponent and m are equal.
            exponent = math.log(background_level) / math.log(1 - background_level)
        maps = flip_back(self.refined_cams(encoded, names, labels), encoded.flip).cpu().numpy()
        # Entry 0 of the table is the background where there is one; the last is no label.
        plane_labels = [*([0] if self.with_background else []), *names.labels[labels].tolist()]
        table = np.asarray([*plane_labels, IGNORED], dtype=np.int64)
        if self.post_processor is None and not with_planes:
            index = self._running_argmax(maps, encoded.size, exponent)
            found = np.empty(encoded.size, dtype=np.int64)
            for rows in row_blocks(encoded.size):  # an index array becomes int64, too
                found[rows] = table[index[rows]]
            return Masks(torch.from_numpy(found), None, plane_labels)
        planes = self._probabilities(maps, encoded.size, exponent)
        if self.post_processor is not None and labels:
            assert encoded.features is not None
            there = torch.from_numpy(planes).to(encoded.features[0].patches.device)
            planes = self.post_processor(there, encoded.original).cpu().numpy()
        found = np.full(encoded.size, IGNORED, dtype=np.int64)
        if len(planes):
            for rows in row_blocks(encoded.size):  # argmax copies the planes
                found[rows] = table[planes[:, rows].argmax(axis=0)]
        return Masks(torch.from_numpy(found), torch.from_numpy(planes), plane_labels)

    def refined_cams(self, encoded: EncodedImage, names: CAMNames, labels: list[int]) -> Tensor:
        """CAMs ``(T, h, w)`` in [0, 1] of an image's tags, spread along the attention.

        Args:
            encoded: The image.
            names: The names of the call.
            labels: The T tags, as indices of the classes.
        """
        assert encoded.features is not None
        (features,) = encoded.features
        if not labels:
            return torch.zeros(0, *features.grid)
        all_text, count = names.cam.text, len(names.vocabulary)
        rows = [*labels, *range(count, len(all_text))]
        if self.cam.all_words:
            rows += sorted({*range(count)} - {*labels})
        cams = self.cam(features, all_text[rows], len(labels), self.encoder)
        affinity = self.affinity.mean(features.attention)[0]
        return self.affinity(cams, affinity, features.grid).unflatten(1, features.grid)

    def _running_argmax(
        self, maps: np.ndarray, size: tuple[int, int], exponent: float
    ) -> np.ndarray:
        """Index ``(H, W)`` of the winning plane at each pixel, without holding all planes.

        It holds two planes of float32 and the index, of 1 byte, or 2 above 255 planes: 9 or
        10 bytes per pixel. Everything else is done in blocks of rows.

        Args:
            maps: ``(T, h, w)`` float32, of the tags.
            size: ``(H, W)``.
            exponent: Of the background.

        Returns:
            0 is the background where there is one; the number of planes is none at all.
        """
        first = int(self.with_background)
        last = first + len(maps)
        index = np.full(size, last, dtype=np.min_scalar_type(last))
        best, plane = np.zeros(size, dtype=np.float32), np.empty(size, dtype=np.float32)
        for number, one in enumerate(maps, first):
            resize_map(np.ascontiguousarray(one), size, plane)
            for rows in row_blocks(size):
                # The first tag wins wherever it is 0, too.
                above = True if number == first else plane[rows] > best[rows]
                np.copyto(best[rows], plane[rows], where=above)
                np.copyto(index[rows], number, where=above)
        if self.with_background:
            for rows in row_blocks(size):
                index[rows][(1 - best[rows]) ** exponent >= best[rows]] = 0
        return index

    def _probabilities(
        self, maps: np.ndarray, size: tuple[int, int], exponent: float
    ) -> np.ndarray:
        """``(1 + T, H, W)``, or ``(T, H, W)`` without a background; for the arguments see above."""
        first = int(self.with_background)
        planes = np.empty((first + len(maps), *size), dtype=np.float32)
        for one, plane in zip(maps, planes[first:], strict=True):
            resize_map(np.ascontiguousarray(one), size, plane)
        if self.with_background:
            planes[0] = (1 - planes[1:].max(axis=0, initial=0)) ** exponent
        return planes
