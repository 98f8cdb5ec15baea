"""What training-free segmentors share: their labels' names, tags of samples, and refusals."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmseg.models.segmentors import BaseSegmentor
from mmseg.structures import SegDataSample
from torch import nn

from ...labels import labels_metainfo
from ...registry import MODELS

IGNORED = 255
TAG_SOURCES = ('own', 'given', 'ground_truth')


class TrainingFreeSegmentor(BaseSegmentor):
    """A segmentor of MMSegmentation that has nothing to train.

    Args:
        names: Of the labels but for the background.
        with_background: Whether label 0 is the background and the names follow
            from 1.
        data_preprocessor: :class:`CLIPDataPreprocessor` if None.
        init_cfg: Of no effect.
    """

    def __init__(
        self,
        names: Sequence[str],
        with_background: bool,
        data_preprocessor: ConfigDict | dict | nn.Module | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        if data_preprocessor is None:
            data_preprocessor = {'type': 'mmtagclip.CLIPDataPreprocessor'}
        super().__init__(data_preprocessor, init_cfg)
        self.align_corners = False  # which test-time augmentation asks for
        self.set_label_names(names, with_background)

    def set_label_names(self, names: Sequence[str], with_background: bool) -> None:
        """Name the labels; arguments as in the constructor."""
        self.with_background = with_background
        self._dataset_meta = labels_metainfo(names, with_background)
        # What test-time augmentation and inferencers ask of a segmentor.
        self.num_classes = self.out_channels = len(self._dataset_meta['classes'])

    @property
    def dataset_meta(self) -> dict[str, Any]:
        """``classes``, the name of each label, and ``palette``, its RGB colour.

        The names are the segmentor's own and stay: mmseg's inferencer, which
        gives every model without a checkpoint those of Cityscapes, changes
        nothing. Other colours may be set together with the same names.
        """
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, meta: dict[str, Any]) -> None:
        if list(meta['classes']) == list(self._dataset_meta['classes']):
            self._dataset_meta = dict(meta)

    def loss(self, inputs: Any, data_samples: Any) -> Any:
        """There is nothing to train.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError(
            f'{type(self).__name__} is training-free: there is nothing to '
            'train. Evaluate it with tools/test.py'
        )


def check_sample(sample: SegDataSample, tags: str | None, needs_original: bool) -> None:
    """Refuse a sample that lacks what a segmentor's options need.

    Args:
        sample: Of one image.
        tags: Where its tags come from: one of ``TAG_SOURCES``, or None.
        needs_original: Whether the original picture is needed.

    Raises:
        ValueError: It does, or its mask has another size than its image; the
            message names the image.
    """
    path = sample.get('img_path', 'an image')
    size = tuple(sample.ori_shape[:2])
    if 'gt_sem_seg' in sample and tuple(sample.gt_sem_seg.shape) != size:
        raise ValueError(
            f'{path} is {size[1]}x{size[0]} pixels, but its mask '
            f'{sample.get("seg_map_path")} is '
            f'{sample.gt_sem_seg.shape[1]}x{sample.gt_sem_seg.shape[0]}'
        )
    if needs_original and 'original' not in sample:
        raise ValueError(
            f'{path}: a post-processor needs the original picture; put '
            "mmtagclip.KeepImage behind the loading transform and 'original' "
            "among PackSegInputs' meta_keys"
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


def sample_tags(sample: SegDataSample, tags: str, count: int, with_background: bool) -> list[int]:
    """Tags that a sample brings along, or those of its mask.

    Args:
        sample: Of one image.
        tags: ``'given'`` or ``'ground_truth'``.
        count: Number of classes.
        with_background: Whether value 0 of the mask is the background.

    Returns:
        Indices of the classes, in order.

    Raises:
        ValueError: An index that there is not; the message names the image.
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
    return sorted(set(labels))


def build(part: Any) -> Any:
    """Build a part from its config, or take it as it is."""
    return MODELS.build(part) if isinstance(part, dict) else part
