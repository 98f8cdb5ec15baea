"""Trident's refinement: SAM draws the masks that a segmentor's labels and planes prompt it for."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from torch import Tensor

from ...regions import SAM
from ...regions.sam import SIDE, SAMImage, scaled
from ...registry import MODELS
from .base import EncodedImage, LabelProcessor, Masks, build
from .sam_gatherer import sam_image
from .windows import resize

PROMPT_SIDE = 256  # of SAM's mask prompts
PROMPT_SCALE = 0.005
PROMPTS = 8  # that are answered together


@dataclass(frozen=True, eq=False)
class ClassPrompts:
    """What SAM is asked for one label.

    Attributes:
        label: The label.
        boxes: ``(n, 4)`` x, y of the first and of the last pixel of each component, at half size.
        points: ``(n, 2)`` x, y of the most probable pixel of each, at half size.
        mask: ``(256, 256)``, the same for all.
    """

    label: int
    boxes: np.ndarray
    points: np.ndarray
    mask: Tensor


@MODELS.register_module()
class SAMRefinement(LabelProcessor):
    """SAM draws the labels' masks again (Trident, 2024).

    At half size, each connected component of a label becomes a box, its most probable pixel a
    point, and the label's plane a mask: the prompts of one mask of SAM. A pixel gets the label of
    the masks that hold it for which the product of SAM's and the segmentor's probability is
    highest, whether or not that is above the segmentor's threshold; where there is no mask, it
    keeps its label.

    Args:
        sam: Config of the :class:`SAM`; if None, that of the segmentor's ``gatherer``.
        coarse: Least probability of a pixel of a component, and of the mask prompt; published: 0.2
            on VOC, 0.15 on PASCAL Context, 0.25 on COCO-Object, 0.05 on COCO-Stuff and ADE20K, 0.1
            on Cityscapes.
        min_area: Least area of a component, in pixels at half size; published: 225.
        min_quality: Masks whose IoU SAM predicts to be at most this are left out; published: 0.8.
        patch_size: SAM sees the image enlarged to multiples of this, in pixels. Default: the patch
            size of the encoder of a :class:`DirectSegmentor`, as published; else 1.
        published_prompt: Whether mask prompts are given as in the released code, without their
            batch dimension: SAM then normalises their embedding over the rows of the image
            instead of the channels. The published figures were made so.

    Raises:
        ValueError: A number is out of range, or the SAM was built without ``masks``.
    """

    needs_original = True
    needs_planes = True

    def __init__(
        self,
        sam: ConfigDict | dict | SAM | None = None,
        coarse: float = 0.2,
        min_area: int = 225,
        min_quality: float = 0.8,
        patch_size: int | None = None,
        published_prompt: bool = False,
    ) -> None:
        super().__init__()
        if not 0 <= coarse <= 1 or min_area < 0 or patch_size == 0:
            raise ValueError(
                'SAMRefinement needs coarse in [0, 1], min_area >= 0 and patch_size >= 1, not '
                f'coarse={coarse}, min_area={min_area}, patch_size={patch_size}'
            )
        self.sam: SAM | None = build(sam)
        self.coarse = coarse
        self.min_area = min_area
        self.min_quality = min_quality
        self.patch_size = patch_size
        self.published_prompt = published_prompt

    def forward(self, masks: Masks, image: EncodedImage) -> Tensor:
        """Draw the labels again; see :class:`LabelProcessor`.

        Raises:
            ValueError: There is no SAM.
        """
        labels = masks.labels.clone()
        prompts = list(self.prompts(masks))
        if not prompts:
            return labels
        seen = sam_image(self._sam, image, self.patch_size or 1)
        best = torch.zeros(labels.shape, device=labels.device)
        for label, plane in self.scores(masks, prompts, seen):
            better = plane > best
            labels.masked_fill_(better, label)
            best = torch.where(better, plane, best)
        return labels

    @property
    def _sam(self) -> SAM:
        if self.sam is None:
            raise ValueError('this SAMRefinement has no SAM: set sam')
        return self.sam

    def prompts(self, masks: Masks) -> Iterator[ClassPrompts]:
        """The prompts of each label that has any, in ascending order of the labels."""
        assert masks.planes is not None
        height, width = masks.labels.shape
        half = height // 2, width // 2
        if not masks.plane_labels or min(half) < 1:
            return
        small = {
            label: resize(plane(masks, label)[None, None], half)[0, 0]
            for label in sorted(set(masks.plane_labels))
        }
        top = reduce(torch.maximum, small.values())
        labels = F.interpolate(masks.labels[None, None].double(), size=half, mode='nearest')[0, 0]
        drawn = labels.masked_fill(top < self.coarse, -1).cpu().numpy()
        for label, one in small.items():
            if one.max() < self.coarse:
                continue
            components = self._components(drawn == label, one.cpu().numpy())
            if components:
                boxes, points = (np.array(part) for part in zip(*components, strict=True))
                yield ClassPrompts(label, boxes, points, self._mask(one, (height, width)))

    def _components(
        self, labelled: np.ndarray, probability: np.ndarray
    ) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """Box and point of each large component, in the order of their first pixels."""
        _, ids, stats, _ = cv2.connectedComponentsWithStats(
            labelled.astype(np.uint8), connectivity=8
        )
        numbers, first = np.unique(ids, return_index=True)
        found: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
        for number in numbers[np.argsort(first)]:
            left, top, width, height, area = (int(one) for one in stats[number])
            if number == 0 or area < self.min_area:
                continue
            area_of = slice(top, top + height), slice(left, left + width)
            inside = np.where(ids[area_of] == number, probability[area_of], -1)
            y, x = np.unravel_index(inside.argmax(), inside.shape)
            box = left, top, left + width - 1, top + height - 1
            found.append((box, (left + int(x), top + int(y))))
        return found

    def _mask(self, probability: Tensor, size: tuple[int, int]) -> Tensor:
        """The mask prompt ``(256, 256)`` of a plane of half size."""
        height, width = scaled(size, PROMPT_SIDE)
        prompt = resize(probability[None, None].float(), (height, width))[0, 0]
        prompt = torch.where(prompt > self.coarse, PROMPT_SCALE * prompt, 0.0)
        return F.pad(prompt, (0, PROMPT_SIDE - width, 0, PROMPT_SIDE - height))

    def scores(
        self, masks: Masks, prompts: list[ClassPrompts], image: SAMImage
    ) -> Iterator[tuple[int, Tensor]]:
        """For each label of which SAM drew masks: their probability ``(H, W)``, 0 outside."""
        features = self._sam.features(image)
        height, width = masks.labels.shape
        size, half = (height, width), (height // 2, width // 2)
        for one in prompts:
            chance: Tensor | None = None
            union: Tensor | None = None
            for logits, quality in self.answers(one, half, features):
                for plane_logits in self._upscaled(logits[quality > self.min_quality], image, size):
                    inside = plane_logits > 0
                    probability = plane_logits.sigmoid_()
                    chance = probability if chance is None else torch.maximum(chance, probability)
                    union = inside if union is None else union | inside
            if chance is not None and union is not None:
                # CLS-SEG's masks are on the host, and SAM may be on a GPU.
                chance = plane(masks, one.label).to(chance.device) * chance * union
                yield one.label, chance.to(masks.labels.device)

    def answers(
        self, prompts: ClassPrompts, half: tuple[int, int], features: Tensor
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """SAM's answers, some together.

        Args:
            prompts: Of one label.
            half: Size in whose pixels they are.
            features: ``(1, C, 64, 64)`` of SAM.

        Yields:
            Logits ``(n, 256, 256)`` of one mask per component, and its predicted IoU ``(n,)``.
        """
        sam, device = self._sam, features.device
        height, width = scaled(half, SIDE)
        # In float32, as SAM's own code does: the last digit of a coordinate shows in the logits.
        scale = torch.tensor([width / half[1], height / half[0]])
        boxes, points = (
            (torch.from_numpy(part).view(len(part), -1, 2).float() * scale).to(device)
            for part in (prompts.boxes, prompts.points)
        )
        mask = prompts.mask.to(device)
        mask = mask[None] if self.published_prompt else mask[None, None]
        for start in range(0, len(points), PROMPTS):
            some = slice(start, start + PROMPTS)
            one = torch.ones(len(points[some]), 1, dtype=torch.int, device=device)
            sparse, dense = sam.prompt_encoder(
                points=(points[some], one), boxes=boxes[some].flatten(1), masks=mask
            )
            logits, quality = sam.mask_decoder(
                image_embeddings=features,
                image_pe=sam.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=False,
            )
            yield logits[:, 0], quality[:, 0]

    def _upscaled(self, logits: Tensor, image: SAMImage, size: tuple[int, int]) -> Iterator[Tensor]:
        """Logits ``(H, W)`` of the original size, one by one."""
        library = self._sam.library()
        for one in logits:
            full = library.postprocess_masks(one[None, None], image.input_size, image.size)
            yield (full if image.size == tuple(size) else resize(full, size))[0, 0]


def plane(masks: Masks, label: int) -> Tensor:
    """Probability ``(H, W)`` of a label; of several planes, the greatest."""
    assert masks.planes is not None
    rows = [row for row, one in enumerate(masks.plane_labels) if one == label]
    return masks.planes[rows].amax(dim=0) if len(rows) > 1 else masks.planes[rows[0]]
