"""The last step of a segmentor, on its labels: correct them by regions, close gaps."""

import cv2
import numpy as np
import torch
from torch import Tensor

from ...registry import MODELS
from .base import EncodedImage, LabelProcessor, Masks


@MODELS.register_module()
class MapCorrection(LabelProcessor):
    """Every region gets the label that most of its pixels have (CorrCLIP).

    Of labels that are equally frequent, the lowest wins. The background and 255 are labels like
    any other. Pixels that belong to no region keep their label.

    Args:
        lowest_is_none: Whether the lowest id of an image belongs to no region, as in the released
            code, instead of id 0. Without such pixels, one real region is not corrected.
    """

    needs_regions = True

    def __init__(self, lowest_is_none: bool = False) -> None:
        super().__init__()
        self.lowest_is_none = lowest_is_none

    def forward(self, masks: Masks, image: EncodedImage) -> Tensor:
        """Correct the labels; see :class:`LabelProcessor`."""
        assert image.regions is not None
        labels = masks.labels.cpu().numpy().ravel()
        ids, index = np.unique(image.regions, return_inverse=True)
        index = index.ravel()
        count = int(labels.max(initial=0)) + 1
        # How many pixels each region has of each label; only pairs that occur are held.
        pairs, pixels = np.unique(index * count + labels, return_counts=True)
        region, label = np.divmod(pairs, count)
        order = np.lexsort((label, -pixels, region))
        first = np.searchsorted(region[order], np.arange(len(ids)))
        found = label[order][first][index]
        none = ids[0] if self.lowest_is_none else 0
        found = np.where(ids[index] == none, labels, found)
        return torch.from_numpy(found).view(masks.labels.shape).to(masks.labels.device)


@MODELS.register_module()
class LabelClosing(LabelProcessor):
    """Morphological closing of a map of labels, as in ITACLIP: of the numbers themselves.

    A gap that is narrower than the square, between pixels of one label or
    between these and the edge, is filled if its labels are lower. The order of
    the classes therefore matters: the background, 0, is always overwritten.

    Args:
        size: Side of the square, in pixels, odd; published: 3.

    Raises:
        ValueError: A size that is even or not positive.
    """

    def __init__(self, size: int = 3) -> None:
        super().__init__()
        if size < 1 or size % 2 == 0:
            raise ValueError(f'LabelClosing needs an odd size, not {size}')
        self.size = size

    def forward(self, masks: Masks, image: EncodedImage) -> Tensor:
        """Close the labels; see :class:`LabelProcessor`."""
        labels = masks.labels
        # 16 bits, as there may be more than 255 labels.
        closed = cv2.morphologyEx(
            labels.cpu().numpy().astype(np.uint16),
            cv2.MORPH_CLOSE,
            np.ones((self.size, self.size), np.uint8),
        )
        return torch.from_numpy(closed.astype(np.int64)).to(labels.device)
