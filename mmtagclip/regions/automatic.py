"""Regions of images that SAM and SAM 2 find without prompts."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.config import ConfigDict
from torch import nn

from ..clip.downloads import GIVE_FOLDER, downloading, offline
from ..extras import require
from ..files import user_path
from ..registry import MODELS
from .files import paint
from .sam import SAM

# How many pixels of the image the masks of a batch of points may have together; at most 64 points.
BATCH_PIXELS, MOST_POINTS = 2**24, 64


class RegionSource(nn.Module):
    """Base class of the parts that find the regions of an image."""

    def forward(self, image: np.ndarray) -> np.ndarray:
        """Find regions.

        Args:
            image: ``(H, W, 3)`` uint8 RGB.

        Returns:
            ``(H, W)`` int32, the region of each pixel, from 1; 0 for none.
        """
        raise NotImplementedError


class AutomaticMasks(RegionSource):
    """Masks that a model draws for a grid of points, painted as regions.

    Args:
        points_per_side: The grid has as many points along each side of the image.
        min_quality: Masks whose IoU the model predicts to be at most this are left out; 0 for no
            such rule.
        min_stability: Least IoU of the masks at logits of 1 and -1.
        max_overlap: Of masks whose boxes have a higher IoU, only the one with the highest
            predicted IoU is kept.
        small_over_large: Whether small masks are painted over large ones. By default, as in
            the released code, large masks hide the small ones inside them.

    Raises:
        ValueError: A number is out of range.
    """

    def __init__(
        self,
        points_per_side: int,
        min_quality: float,
        min_stability: float,
        max_overlap: float,
        small_over_large: bool,
    ) -> None:
        super().__init__()
        numbers = {
            'min_quality': min_quality,
            'min_stability': min_stability,
            'max_overlap': max_overlap,
        }
        for key, value in numbers.items():
            if not 0 <= value <= 1:
                raise ValueError(f'{type(self).__name__} needs {key} in [0, 1], not {value}')
        if points_per_side < 1:
            raise ValueError(f'points_per_side must be at least 1, not {points_per_side}')
        self.points_per_side = points_per_side
        self.min_quality = min_quality
        self.min_stability = min_stability
        self.max_overlap = max_overlap
        self.small_over_large = small_over_large

    @torch.no_grad()
    def forward(self, image: np.ndarray) -> np.ndarray:
        """See :class:`RegionSource`."""
        height, width = image.shape[:2]
        return paint(by_area(self.masks(image), self.small_over_large), (height, width))

    def masks(self, image: np.ndarray) -> list[np.ndarray]:
        """Masks ``(H, W)`` bool of an image, which may overlap."""
        raise NotImplementedError

    def points_together(self, image: np.ndarray) -> int:
        """How many points are answered together, so that memory stays bounded."""
        return max(1, min(MOST_POINTS, BATCH_PIXELS // (image.shape[0] * image.shape[1])))


@MODELS.register_module()
class SAMRegions(AutomaticMasks):
    """Regions by SAM, with segment-anything's generator of masks.

    Args:
        sam: Config of the :class:`SAM`.
        points_per_side: See :class:`AutomaticMasks`.
        min_quality: The same.
        min_stability: The same.
        max_overlap: The same.
        small_over_large: The same.

    Raises:
        ValueError: A number is out of range.
    """

    def __init__(
        self,
        sam: ConfigDict | dict | SAM,
        points_per_side: int = 32,
        min_quality: float = 0.7,
        min_stability: float = 0.7,
        max_overlap: float = 0.7,
        small_over_large: bool = False,
    ) -> None:
        super().__init__(points_per_side, min_quality, min_stability, max_overlap, small_over_large)
        self.sam: SAM = MODELS.build(sam) if isinstance(sam, dict) else sam
        self.sam.library()  # refuses one without masks

    def masks(self, image: np.ndarray) -> list[np.ndarray]:
        """See :class:`AutomaticMasks`."""
        from segment_anything import SamAutomaticMaskGenerator

        generator = SamAutomaticMaskGenerator(
            self.sam.library(),
            points_per_side=self.points_per_side,
            points_per_batch=self.points_together(image),
            pred_iou_thresh=self.min_quality,
            stability_score_thresh=self.min_stability,
            box_nms_thresh=self.max_overlap,
        )
        return [one['segmentation'] for one in generator.generate(image)]


@MODELS.register_module()
class SAM2Regions(AutomaticMasks):
    """Regions by SAM 2, with the models of transformers (the extra ``sam``).

    Args:
        model: ``'local-dir:PATH'``, a folder in transformers' layout, or ``'hf-hub:ORG/REPO'``,
            such as ``'hf-hub:facebook/sam2-hiera-large'``.
        points_per_side: See :class:`AutomaticMasks`.
        min_quality: The same.
        min_stability: The same, but masks must be above it.
        max_overlap: The same.
        small_over_large: The same.
        single_mask: Whether the model draws one mask per point instead of three.
        download: Whether weights that are not on this machine may be downloaded.

    Raises:
        FileNotFoundError: There is no such folder, or it would have to be downloaded.
        ImportError: transformers is not installed.
        ValueError: A number is out of range, or this is no SAM 2.
    """

    def __init__(
        self,
        model: str,
        points_per_side: int = 32,
        min_quality: float = 0.7,
        min_stability: float = 0.7,
        max_overlap: float = 0.7,
        small_over_large: bool = False,
        single_mask: bool = False,
        download: bool = False,
    ) -> None:
        super().__init__(points_per_side, min_quality, min_stability, max_overlap, small_over_large)
        require('transformers', 'sam', 'SAM 2')
        self.single_mask = single_mask
        self.name = model
        self.model, self._processor = _load_sam2(model, download)
        # A file beside the weights, which decides what the model sees.
        self.preprocessing = json.loads(self._processor.to_json_string())

    def masks(self, image: np.ndarray) -> list[np.ndarray]:
        """See :class:`AutomaticMasks`."""
        processor, device = self._processor, next(self.model.parameters()).device
        size = (image.shape[0], image.shape[1])
        pixels = processor(images=image, return_tensors='pt')['pixel_values'].to(device)
        embeddings = self.model.get_image_embeddings(pixels)
        crops, points, _, labels = processor.generate_crop_boxes(
            torch.from_numpy(image).permute(2, 0, 1),
            pixels.shape[-1],
            points_per_crop=self.points_per_side,
            device=device,
        )
        masks: list[Any] = []
        scores, boxes = [], []
        together = self.points_together(image)
        for start in range(0, points.shape[1], together):
            some = slice(start, start + together)
            answer = self.model(
                input_points=points[:, some],
                input_labels=labels[:, some],
                image_embeddings=embeddings,
                multimask_output=not self.single_mask,
            )
            (logits,) = processor.post_process_masks(answer.pred_masks, [size], binarize=False)
            kept, score, box = processor.filter_masks(
                logits,
                answer.iou_scores[0],
                size,
                crops[0].tolist(),
                self.min_quality,
                self.min_stability,
            )
            masks.extend(kept)
            scores.append(score)
            boxes.append(box)
        if not masks:
            return []
        found, *_ = processor.post_process_for_mask_generation(
            masks, torch.cat(scores), torch.cat(boxes), self.max_overlap
        )
        return [np.asarray(one, dtype=bool) for one in found]


def by_area(masks: Sequence[np.ndarray], small_over_large: bool = False) -> list[np.ndarray]:
    """Masks in the order in which they are painted.

    Args:
        masks: ``(H, W)`` bool each.
        small_over_large: Whether small masks are painted over large ones, instead of large ones
            over small ones.
    """
    areas = [int(one.sum()) for one in masks]
    order = sorted(range(len(masks)), key=areas.__getitem__, reverse=small_over_large)
    return [masks[index] for index in order]


def _load_sam2(name: str, download: bool) -> tuple[Any, Any]:
    """A frozen SAM 2 and what prepares its images."""
    if name.startswith('local-dir:'):
        source = str(user_path(name.removeprefix('local-dir:')))
        if not user_path(source).is_dir():
            raise FileNotFoundError(f'there is no folder {source}')
    elif name.startswith('hf-hub:'):
        source = name.removeprefix('hf-hub:')
    else:
        raise ValueError(f'a SAM 2 is local-dir:PATH or hf-hub:ORG/REPO, not {name!r}')
    from transformers import AutoConfig, Sam2ImageProcessor, Sam2Model

    def load() -> tuple[Any, Any]:
        options: dict[str, Any] = {'local_files_only': not download}
        config = AutoConfig.from_pretrained(source, **options)
        if config.model_type not in ('sam2', 'sam2_video'):
            raise ValueError(f'{name} is a model of the type {config.model_type}, not a SAM 2')
        model = Sam2Model.from_pretrained(source, use_safetensors=True, **options)
        processor = Sam2ImageProcessor.from_pretrained(source, **options)
        return model.eval().requires_grad_(False), processor

    if name.startswith('local-dir:') or not download:
        with offline(f'the files of {name}', False, GIVE_FOLDER):
            return load()
    with downloading(name, source, GIVE_FOLDER):
        return load()
