"""Multi-label data sets that MMPretrain lacks, or reads without checks."""

# First: what is imported below imports MMPretrain, too, and has said its lines then.
from ..frameworks import pretrain  # noqa: F401

# isort: split
import os
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import Any

from mmpretrain.datasets import VOC, MultiLabelDataset

from ..registry import DATASETS
from .coco import read_coco
from .own_labels import read_tags

# Values of VOC's element. Annotation tools write the last two if nobody set it.
DIFFICULT = {'0': False, '1': True, 'unspecified': False, '': False}


@DATASETS.register_module()
class CocoMultiLabel(MultiLabelDataset):
    """Multi-label data set of a COCO instances file: the categories in each image.

    The classes are the file's categories in the order of their ids. ``metainfo`` may
    rename them.

    Args:
        ann_file: Instances JSON, relative to ``data_root``.
        keep_unlabelled: Whether images without objects are kept. Published figures
            leave them out.
        **kwargs: See :class:`mmpretrain.datasets.MultiLabelDataset`.

    Raises:
        FileNotFoundError: There is no such annotation file.
        ValueError: See :func:`mmtagclip.datasets.coco.read_coco`; or the number of
            categories differs from ``metainfo``.
    """

    def __init__(self, ann_file: str, keep_unlabelled: bool = False, **kwargs: Any) -> None:
        self.keep_unlabelled = keep_unlabelled
        super().__init__(ann_file=ann_file, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Read the annotation file."""
        coco = read_coco(self.ann_file)
        category_ids = sorted(coco.cats)
        names = tuple(coco.cats[category]['name'] for category in category_ids)
        classes = self._metainfo.setdefault('classes', names)
        if len(classes) != len(names):
            raise ValueError(
                f'{self.ann_file} has {len(names)} categories, but metainfo has '
                f'{len(classes)} classes'
            )
        labels = {category: label for label, category in enumerate(category_ids)}
        data_list = []
        for image_id in sorted(coco.imgs):
            categories = {annotation['category_id'] for annotation in coco.imgToAnns[image_id]}
            if categories or self.keep_unlabelled:
                path = os.path.join(self.img_prefix, coco.imgs[image_id]['file_name'])
                data_list.append(
                    {
                        'img_path': path,
                        'img_id': image_id,
                        'gt_label': sorted(labels[c] for c in categories),
                    }
                )
        return data_list


@DATASETS.register_module()
class VOCMultiLabel(VOC):
    """MMPretrain's VOC that refuses an object of an unknown class instead of dropping it.

    An object is not difficult if its ``difficult`` element is missing or ``Unspecified``.

    Raises:
        ValueError: An annotation file is not XML, names a class that the data set does
            not have, or has an unknown value of ``difficult``.
    """

    def _get_labels_from_xml(self, img_id: str) -> tuple[list[int], list[int]]:
        path = self.backend.join_path(self.ann_prefix, f'{img_id}.xml')
        try:
            root = ET.fromstring(self.backend.get(path))
        except ET.ParseError as error:
            raise ValueError(f'{path} is not an XML file: {error}') from None
        labels: set[int] = set()
        difficult: set[int] = set()
        for node in root.findall('object'):
            name = node.findtext('name')
            if name not in self.CLASSES:
                raise ValueError(
                    f'{path} names the unknown class {name!r}; the classes are '
                    f'{", ".join(self.CLASSES)}'
                )
            text = node.findtext('difficult', '0').strip()
            hard = DIFFICULT.get(text.lower())
            if hard is None:
                raise ValueError(
                    f"{path} has difficult={text!r} for {name!r}; it must be '0' or '1'"
                )
            (difficult if hard else labels).add(self.class_to_idx[name])
        return sorted(labels), sorted(difficult)


@DATASETS.register_module()
class OwnMultiLabel(MultiLabelDataset):
    """The user's own images with tags; see :mod:`mmtagclip.datasets.own_labels`.

    Args:
        images: Folder of the images; every image below it can be labelled.
        labels: File or folder of the labels. Images that it does not name are left out.
        classes: Class names, for labels that are numbers: a built-in list, a file or a list.
        **kwargs: See :class:`mmpretrain.datasets.MultiLabelDataset`.

    Raises:
        FileNotFoundError: There is no such file or folder.
        ValueError: See :func:`mmtagclip.datasets.own_labels.read_tags`.
    """

    def __init__(
        self,
        images: str,
        labels: str,
        classes: str | Sequence | None = None,
        **kwargs: Any,
    ) -> None:
        self.images = images
        self.labels = labels
        self.names = classes
        super().__init__(ann_file='', **kwargs)

    def load_data_list(self) -> list[dict]:
        """Read the labels."""
        tags = read_tags(self.images, self.labels, self.names)
        self._metainfo.setdefault('classes', tags.classes)
        return [
            {'img_path': path, 'gt_label': labels}
            for path, labels in zip(tags.images, tags.labels, strict=True)
        ]
