"""A wrapper that replaces the labels of a data set by pseudo labels."""

# First: what is imported below imports MMSegmentation, too, and has said its lines then.
from ..frameworks import segmentation  # noqa: F401

# isort: split
import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset, Compose
from mmseg.datasets import BaseSegDataset
from torch.utils.data import Dataset

from ..jobs.pseudo_labels import read_pseudo_labels
from ..jobs.runner import Manifest
from ..labels import IGNORED
from ..records import ImageRecord
from ..registry import DATASETS
from .image_index import ImageIndex
from .tag_file import read_tag_file


@DATASETS.register_module()
class PseudoLabelDataset(Dataset):
    """Wrap a data set and replace its labels by pseudo labels.

    A data set of MMSegmentation gets pseudo masks. A multi-label data set of
    MMPretrain gets pseudo tags. Pipeline, meta information and data infos are those
    of the wrapped data set, so code for the wrapped data set works here, too. A data
    set without class names (a folder of images) gets the class names of the labels.

    Args:
        dataset: Config of the data set. Its own labels are used only for
            ``real_fraction``.
        labels: Folder of finished pseudo labels, or a tag file of the data set's classes
            (see :func:`read_tag_file`; the text format has no scores).
        class_map: Maps each class name of the pseudo labels to a class name of the
            data set, or to None to ignore the class (255 in masks). Without a map,
            the names must be the same in the same order.
        drop_untagged: Whether images without tags are left out.
        min_score: Tags with a lower score are dropped.
        real_fraction: Share of the images, in [0, 1], that keep their real
            labels.
        seed: Seed of the choice of these images.
        max_refetch: How often another image is tried if a training pipeline
            returns None.
        pipeline: Transforms that replace the data set's pipeline, for tools and
            inferencers that read or change the pipeline of the config's data set.

    Raises:
        FileNotFoundError: The folder contains no pseudo labels.
        ValueError: The pseudo labels are unfinished, are for other classes, are of
            the wrong kind, lack an image of the data set or have one entry for two; or an
            option does not fit them.
    """

    def __init__(
        self,
        dataset: Any,
        labels: str,
        class_map: Mapping[str, str | None] | None = None,
        drop_untagged: bool = False,
        min_score: float = 0.0,
        real_fraction: float = 0.0,
        seed: int = 0,
        max_refetch: int = 1000,
        pipeline: Sequence[dict | Callable] | None = None,
    ) -> None:
        self.dataset: BaseDataset = (
            DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        )
        self.root = Path(labels)
        if not 0 <= real_fraction <= 1:
            raise ValueError(f'real_fraction must be in [0, 1], not {real_fraction}')
        self.dataset.full_init()
        if pipeline is not None:
            self.pipeline = Compose(pipeline)
        self.max_refetch = max_refetch
        classes = self.dataset.metainfo.get('classes')
        if classes is None and class_map is not None:
            raise ValueError('class_map needs a data set that has class names')
        if self.root.is_file():
            manifest, records = _read_tags(self.root, classes)
        else:
            manifest, records = read_pseudo_labels(
                labels, None if class_map is not None else classes
            )
        self.classes = manifest.classes if classes is None else classes
        self.segments = isinstance(self.dataset, BaseSegDataset)
        wanted = 'masks' if self.segments else 'tags'
        if manifest.kind != wanted:
            raise ValueError(
                f'{labels} has {manifest.kind}, but {type(self.dataset).__name__} needs {wanted}'
            )
        if self.segments and min_score:
            raise ValueError(
                'min_score is for tags; to ignore unsure pixels of masks, set '
                'test_cfg.confidence when the masks are made'
            )
        self.label_map = self._label_map(manifest, classes, class_map)
        self.indices: list[int] = []
        # For each image, the path of its mask or its labels; None keeps the real ones.
        self.labels: list[str | tuple[int, ...] | None] = []
        found = ImageIndex(labels, ((record.image, record) for record in records))
        names = {name: label for label, name in enumerate(manifest.classes)}
        real = set(
            np.random.RandomState(seed)
            .permutation(len(self.dataset))[: round(real_fraction * len(self.dataset))]
            .tolist()
        )
        for index in range(len(self.dataset)):
            if index in real:
                self._keep(index, None)
                continue
            record = found.find_own(str(self.dataset.get_data_info(index)['img_path']))
            if record.error is not None:
                continue
            tags = [
                names[tag]
                for tag, score in zip(
                    record.tags, record.scores or [None] * len(record.tags), strict=True
                )
                if (1.0 if score is None else score) >= min_score
            ]
            if tags or not drop_untagged:
                self._keep(index, record.more['masks'] if self.segments else self._targets(tags))

    @property
    def metainfo(self) -> dict:
        """Meta information of the wrapped data set; without ``classes``, those of the labels."""
        return {**copy.deepcopy(self.dataset.metainfo), 'classes': self.classes}

    @property
    def pipeline(self) -> Compose:
        """Pipeline of the wrapped data set; setting it changes the wrapped data set."""
        return self.dataset.pipeline

    @pipeline.setter
    def pipeline(self, pipeline: Compose) -> None:
        self.dataset.pipeline = pipeline

    @property
    def test_mode(self) -> bool:
        """Mode of the wrapped data set."""
        return self.dataset.test_mode

    def full_init(self) -> None:
        """Do nothing: the data set is read when it is built."""

    def __len__(self) -> int:
        return len(self.indices)

    def get_data_info(self, idx: int) -> dict:
        """Return the data info of an image, with its pseudo label instead of the real one."""
        info = self.dataset.get_data_info(self.indices[idx])
        info['sample_idx'] = idx
        label = self.labels[idx]
        if isinstance(label, str):
            info['seg_map_path'] = str(self.root / label)
            info['reduce_zero_label'] = False
            info['label_map'] = self.label_map
        elif label is not None:
            info['gt_label'] = list(label)
        return info

    def get_cat_ids(self, idx: int) -> list[int]:
        """Return the classes of an image, for samplers that balance classes."""
        return self.get_data_info(idx)['gt_label']

    def __getitem__(self, idx: int) -> Any:
        for _ in range(self.max_refetch + 1):
            data = self.pipeline(self.get_data_info(idx))
            if data is not None:
                return data
            if self.test_mode:
                raise ValueError(
                    f'the pipeline returned nothing for {self.get_data_info(idx)["img_path"]}'
                )
            idx = int(np.random.randint(len(self)))
        raise ValueError(f'the pipeline returned nothing {self.max_refetch + 1} times in a row')

    def _keep(self, index: int, label: str | tuple[int, ...] | None) -> None:
        self.indices.append(index)
        self.labels.append(label)

    def _targets(self, labels: list[int]) -> tuple[int, ...]:
        """Map pseudo labels to the data set's labels, sorted."""
        if self.label_map is not None:
            labels = [self.label_map[label] for label in labels]
        return tuple(sorted({label for label in labels if label != IGNORED}))

    def _label_map(
        self, manifest: Manifest, classes: Any, class_map: Mapping[str, str | None] | None
    ) -> dict[int, int] | None:
        """Map the pseudo labels' class indices to the data set's; 255 means ignored."""
        if class_map is None:
            return None
        missing = [name for name in manifest.classes if name not in class_map]
        unknown = [name for name in class_map.values() if name is not None and name not in classes]
        if missing or unknown:
            raise ValueError(
                f'class_map lacks {missing[0]!r}, a class of {self.root}'
                if missing
                else f'class_map names {unknown[0]!r}, which is not a class of the data set'
            )
        targets = [class_map[name] for name in manifest.classes]
        return {
            label: IGNORED if name is None else list(classes).index(name)
            for label, name in enumerate(targets)
        }


def _read_tags(path: Path, classes: Sequence[str] | None) -> tuple[Manifest, list[ImageRecord]]:
    """Read a tag file, with the result of :func:`read_pseudo_labels`."""
    if classes is None:
        raise ValueError(
            f'{path} is a tag file, which does not list all classes: it needs a data set '
            'that has class names'
        )
    records = [
        ImageRecord(record.image, tuple(classes[label] for label in record.labels))
        for record in read_tag_file(path, classes)
    ]
    return Manifest('tags', tuple(classes)), records
