"""Segmentation data sets whose classes come from a vocabulary."""

# First: what is imported below imports MMSegmentation, too, and has said its lines then.
from ..frameworks import segmentation  # noqa: F401

# isort: split
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmseg.datasets import BaseSegDataset

from ..clip import Vocabulary
from ..images import images_below
from ..labels import IGNORED, labels_metainfo
from ..registry import DATASETS
from .image_folder import log_unread
from .own_labels import mask_pairs


@DATASETS.register_module()
class VocabularySegDataset(BaseSegDataset):
    """Images with index masks, whose classes come from a vocabulary.

    An ``ann_file`` lists the images. Without it, images that have no mask are left
    out (COCO's images without objects).

    Args:
        classes: A bundled list, a file or a list of names.
        with_background: Whether label 0 is the background and the classes
            start at label 1.
        img_suffix: Ending of the images. If None, every image below the folder counts, whatever
            its ending; unsupported with an ``ann_file``.
        seg_map_suffix: Ending of the masks.
        **kwargs: See :class:`mmseg.datasets.BaseSegDataset`.

    A sample raises a ValueError that names its mask if the mask is a colour image or has labels
    beyond the classes.

    Raises:
        FileNotFoundError: There is no image, or no image has a mask.
        ValueError: ``img_suffix`` is None although there is an ``ann_file``; or a class is called
            ``background`` although label 0 is the background.
    """

    def __init__(
        self,
        classes: str | Sequence,
        with_background: bool = True,
        img_suffix: str | None = '.jpg',
        seg_map_suffix: str = '.png',
        **kwargs: Any,
    ) -> None:
        names = Vocabulary.load(classes).names
        metainfo = labels_metainfo(names, with_background)
        super().__init__(
            img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, metainfo=metainfo, **kwargs
        )

    def prepare_data(self, idx: int) -> Any:
        """Run the pipeline for a sample and check its mask."""
        sample = super().prepare_data(idx)
        if isinstance(sample, dict):
            packed = sample.get('data_samples', {})
            if 'gt_sem_seg' in packed:
                mask = packed.gt_sem_seg.data.squeeze(0)  # (H, W, channels) of a colour image
            else:
                mask = sample.get('gt_seg_map')
            if mask is not None:
                self._check_mask(np.asarray(mask), self.get_data_info(idx)['seg_map_path'])
        return sample

    def _check_mask(self, mask: np.ndarray, path: str) -> None:
        if mask.ndim != 2:
            raise ValueError(f'{path} is a colour image, not an index image')
        count = len(self.metainfo['classes'])
        beyond = (mask >= count) & (mask != IGNORED)
        if beyond.any():
            raise ValueError(
                f'{path} has the label {mask[beyond].max()}, but the {count} classes have labels '
                f'0 to {count - 1} ({IGNORED} is ignored)'
            )

    def load_data_list(self) -> list[dict]:
        """List the images, with their masks."""
        if self.img_suffix is None:
            return self._load_any_ending()
        data_list = super().load_data_list()
        if self.ann_file or self.data_prefix.get('seg_map_path') is None:
            return data_list
        with_mask = [one for one in data_list if Path(one['seg_map_path']).is_file()]
        if not with_mask:
            raise FileNotFoundError(
                f'no image (*{self.img_suffix}) in '
                f'{self.data_prefix["img_path"]} has a mask '
                f'(*{self.seg_map_suffix}) in '
                f'{self.data_prefix["seg_map_path"]}'
            )
        return with_mask

    def _load_any_ending(self) -> list[dict]:
        """Every image below the folder; where there are masks, those that have one."""
        folder = Path(self.data_prefix['img_path'])
        masks = self.data_prefix.get('seg_map_path')
        if self.ann_file:
            raise ValueError(
                'img_suffix=None is for folders without a list of images: name the ending of the '
                'images, such as .jpg, beside an ann_file'
            )
        images, others = images_below(folder)
        if masks is None:
            log_unread(folder, others)
            found = [{'img_path': str(path)} for path in images]
        else:
            pairs = mask_pairs(folder, Path(masks), images, self.seg_map_suffix)
            found = [{'img_path': str(path), 'seg_map_path': str(mask)} for path, mask in pairs]
        common = {'label_map': self.label_map, 'reduce_zero_label': self.reduce_zero_label}
        return [{**one, **common, 'seg_fields': []} for one in found]
