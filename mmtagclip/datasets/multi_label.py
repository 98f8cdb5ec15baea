"""Multi-label data sets that MMPretrain lacks, or reads too kindly."""

import contextlib
import io
import json
import os
import xml.etree.ElementTree as ET
from typing import Any

from mmpretrain.datasets import VOC, MultiLabelDataset
from pycocotools.coco import COCO

from ..registry import DATASETS


@DATASETS.register_module()
class CocoMultiLabel(MultiLabelDataset):
    """The categories that occur in each image of a COCO instances file.

    Classes are the file's categories in the order of their ids, named as there
    unless ``metainfo`` names them otherwise.

    Args:
        ann_file: Instances JSON, relative to ``data_root``.
        keep_unlabelled: Whether images without any object are kept; published
            figures are without them.
        **kwargs: See :class:`mmpretrain.datasets.MultiLabelDataset`.

    Raises:
        FileNotFoundError: There is no such annotation file.
        ValueError: It is not in COCO's layout, names an unknown category, or
            has another number of categories than ``metainfo``.
    """

    def __init__(self, ann_file: str, keep_unlabelled: bool = False, **kwargs: Any) -> None:
        self.keep_unlabelled = keep_unlabelled
        super().__init__(ann_file=ann_file, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Read the annotation file with pycocotools."""
        if not os.path.isfile(self.ann_file):
            raise FileNotFoundError(f'no COCO annotation file at {self.ann_file}')
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                coco = COCO(self.ann_file)
            missing = {'images', 'annotations', 'categories'} - coco.dataset.keys()
            if missing:
                raise KeyError(*sorted(missing))
        except (
            json.JSONDecodeError,
            UnicodeDecodeError,
            KeyError,
            TypeError,
            AssertionError,
        ) as error:
            raise ValueError(f"{self.ann_file} is not in COCO's layout: {error!r}") from None
        category_ids = sorted(coco.cats)
        names = tuple(coco.cats[category]['name'] for category in category_ids)
        classes = self._metainfo.setdefault('classes', names)
        if len(classes) != len(names):
            raise ValueError(
                f'{self.ann_file} has {len(names)} categories, but metainfo names '
                f'{len(classes)} classes'
            )
        labels = {category: label for label, category in enumerate(category_ids)}
        data_list = []
        for image_id in sorted(coco.imgs):
            categories = {annotation['category_id'] for annotation in coco.imgToAnns[image_id]}
            unknown = categories - labels.keys()
            if unknown:
                raise ValueError(
                    f'{self.ann_file} gives image {image_id} the unknown category {min(unknown)}'
                )
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
    """MMPretrain's VOC, which refuses an object of an unknown class instead of dropping it.

    An object without a ``difficult`` element is not difficult.

    Raises:
        ValueError: An annotation file is not XML, or names a class that is not
            among the data set's classes.
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
                    f'{path} names the unknown class {name!r}; classes are '
                    f'{", ".join(self.CLASSES)}'
                )
            hard = int(node.findtext('difficult', '0'))
            (difficult if hard else labels).add(self.class_to_idx[name])
        return sorted(labels), sorted(difficult)
