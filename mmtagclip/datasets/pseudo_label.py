"""Any data set with its labels replaced by pseudo labels."""

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
from ..records import ImageRecord
from ..registry import DATASETS
from .image_index import ImageIndex
from .tag_file import read_tag_file


@DATASETS.register_module()
class PseudoLabelDataset(Dataset):
    """Wrap a data set and give it pseudo labels.

    A data set of MMSegmentation gets pseudo masks, any other multi-label data
    set of MMPretrain pseudo tags. Pipeline, meta information and data infos pass
    through, so that whatever works on the wrapped data set works on this one. A data
    set without class names (a folder of photographs) gets those of the labels.

    Args:
        dataset: Config of the data set. Its own labels are used only for
            ``real_fraction``.
        labels: Folder of finished pseudo labels, or a tag file of the data set's classes
            (see :func:`read_tag_file`; the text format has no scores).
        class_map: For each of the pseudo labels' class names the data set's
            name, or None to ignore the class (255 in masks). If None, the names
            must be the same in the same order.
        drop_untagged: Whether images without a single tag are left out.
        min_score: Tags that score lower are dropped.
        real_fraction: Share of the images, in [0, 1], that keep their real
            labels.
        seed: Which ones.
        max_refetch: Times that another image is taken where a training pipeline
            returns None.
        pipeline: Transforms in the place of the data set's own, for tools and
            inferencers that look for, or change, the pipeline of whatever data
            set a config names.

    Raises:
        FileNotFoundError: The folder holds no pseudo labels.
        ValueError: They are unfinished, of other classes, of the wrong kind, or
            lack an image of the data set; or options that don't fit them.
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
                f'{labels} holds {manifest.kind}, but {type(self.dataset).__name__} needs {wanted}'
            )
        if self.segments and min_score:
            raise ValueError(
                'min_score is for tags; unsure pixels of masks are left out where the '
                'masks are made, with test_cfg.confidence'
            )
        self.label_map = self._label_map(manifest, classes, class_map)
        self.indices: list[int] = []
        # Of each image the path of its mask or its labels; None where they stay real.
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
            record = found.find(str(self.dataset.get_data_info(index)['img_path']))
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
        """The wrapped data set's meta information; ``classes`` are the labels' if it has none."""
        return {**copy.deepcopy(self.dataset.metainfo), 'classes': self.classes}

    @property
    def pipeline(self) -> Compose:
        """The wrapped data set's pipeline; setting it sets that one."""
        return self.dataset.pipeline

    @pipeline.setter
    def pipeline(self, pipeline: Compose) -> None:
        self.dataset.pipeline = pipeline

    @property
    def test_mode(self) -> bool:
        """The wrapped data set's mode."""
        return self.dataset.test_mode

    def full_init(self) -> None:
        """Of no effect: the data set is read when it is built."""

    def __len__(self) -> int:
        return len(self.indices)

    def get_data_info(self, idx: int) -> dict:
        """Information of an image, with its pseudo label in the place of the real one."""
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
        """Classes of an image, for samplers that balance them."""
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
        """The data set's labels of pseudo labels, in order."""
        if self.label_map is not None:
            labels = [self.label_map[label] for label in labels]
        return tuple(sorted({label for label in labels if label != 255}))

    def _label_map(
        self, manifest: Manifest, classes: Any, class_map: Mapping[str, str | None] | None
    ) -> dict[int, int] | None:
        """From the pseudo labels' indices to the data set's; 255 for ignored ones."""
        if class_map is None:
            return None
        missing = [name for name in manifest.classes if name not in class_map]
        unknown = [name for name in class_map.values() if name is not None and name not in classes]
        if missing or unknown:
            raise ValueError(
                f'class_map says nothing of {missing[0]!r}, a class of {self.root}'
                if missing
                else f'class_map names {unknown[0]!r}, which is no class of the data set'
            )
        targets = [class_map[name] for name in manifest.classes]
        return {
            label: 255 if name is None else list(classes).index(name)
            for label, name in enumerate(targets)
        }


def _read_tags(path: Path, classes: Sequence[str] | None) -> tuple[Manifest, list[ImageRecord]]:
    """A tag file as :func:`read_pseudo_labels` reads a folder."""
    if classes is None:
        raise ValueError(
            f'{path} has tags by number or of unknown classes: it needs a data set '
            'that has class names'
        )
    records = [
        ImageRecord(record.image, tuple(classes[label] for label in record.labels))
        for record in read_tag_file(path, classes)
    ]
    return Manifest('tags', tuple(classes)), records
