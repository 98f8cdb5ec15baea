"""CWR, the class-wise reidentification of candidates in their own region (TagCLIP, sec. 3.4)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...clip import DenseEncoder
from ...registry import MODELS
from ..maps import far_edge, min_max
from .scoring import name_scores


@dataclass(frozen=True, eq=False)
class Candidates:
    """Classes of the images of a batch that score high enough to be identified again.

    All tensors have K rows, in the order of images, then classes, and are on the scores' device.

    Attributes:
        image: ``(K,)`` index in the batch.
        label: ``(K,)`` index of the foreground class.
        box: ``(K, 4)`` top, left, bottom and right in patches, far edges exclusive; at least one
            patch, also for an empty box.
        mask: ``(K, h, w)`` bool, the patches that show the class.
        kept: ``(K,)`` bool, False for candidates that keep their score: those of an empty
            box and, with ``stop_at_empty_box``, all that follow in the same image.
    """

    image: Tensor
    label: Tensor
    box: Tensor
    mask: Tensor
    kept: Tensor

    def __len__(self) -> int:
        """K."""
        return len(self.image)

    def __getitem__(self, rows: slice) -> 'Candidates':
        """Some of the rows."""
        return Candidates(
            self.image[rows], self.label[rows], self.box[rows], self.mask[rows], self.kept[rows]
        )


@MODELS.register_module()
class CWR(nn.Module):
    """Class-wise reidentification.

    Each foreground class whose score is above a threshold is cropped by the
    box of its score map and passed to plain CLIP, whose class token, or what the model pools in
    its place, sees only the patches of the class. The softmax over all names then counts for
    half of the new score.

    All scores stay finite. If all scores of an image are equal, there is no
    candidate. A score map that is the same on all patches counts as 1
    everywhere. On a grid of one row or column, boxes reach its end. The
    released code returns NaN or nothing in these cases. A crop without a single
    patch of the mask is scored by the class token alone, as published.

    Args:
        threshold: Candidates score above ``min(R) + threshold * (max(R) -
            min(R))`` over all scores of the image, background included;
            published: 0.5 (0.1 on COCO-Stuff).
        stop_at_empty_box: Whether to do as the released code does: stop at the
            first candidate, in class order, whose box is empty, and leave the
            other scores unchanged. By default, only that candidate keeps its
            score.
        max_crops: Most crops that are encoded together; bounds the memory.

    Raises:
        ValueError: ``threshold`` is outside [0, 1], or ``max_crops`` is below 1.
    """

    def __init__(
        self, threshold: float = 0.5, stop_at_empty_box: bool = False, max_crops: int = 32
    ) -> None:
        super().__init__()
        if not 0 <= threshold <= 1:
            raise ValueError(f'CWR needs a threshold in [0, 1], not {threshold}')
        if max_crops < 1:
            raise ValueError(f'CWR needs max_crops >= 1, not {max_crops}')
        self.threshold = threshold
        self.stop_at_empty_box = stop_at_empty_box
        self.max_crops = max_crops

    def forward(
        self,
        refined: Tensor,
        scores: Tensor,
        grid: tuple[int, int],
        images: Tensor,
        text: Tensor,
        encoder: DenseEncoder,
        scoring: str = 'softmax',
        owners: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> Tensor:
        """Identify each candidate again.

        Args:
            refined: ``(B, N, C)`` refined scores, background included.
            scores: ``(B, F)`` image scores of the foreground classes.
            grid: ``(h, w)``.
            images: ``(B, 3, H, W)`` resized and normalised, as encoded.
            text: ``(C, D)`` text features, or ``(B, C, D)``.
            encoder: Plain CLIP for the crops.
            scoring: See :func:`~mmtagclip.models.taggers.scoring.name_scores`.
            owners: The same.
            labels: ``(B, F)``, the name of each foreground class among those of ``text``; their
                order if None.

        Returns:
            ``(B, F)`` new image scores.
        """
        candidates = self.candidates(refined, scores, grid)
        scores = scores.clone()
        for start in range(0, len(candidates), self.max_crops):
            chunk = candidates[start : start + self.max_crops]
            crops, masks = self.crops(chunk, images, encoder)
            class_tokens = encoder.encode_class_token(crops, masks)
            if text.dim() == 3:
                own = class_tokens[:, None], text[chunk.image]
                probability = name_scores(*own, encoder, scoring)[:, 0]
            else:
                probability = name_scores(class_tokens, text, encoder, scoring, owners)
            at = chunk.image, chunk.label
            name = chunk.label if labels is None else labels[at]
            new = probability.gather(1, name[:, None])[:, 0]
            scores[at] = torch.where(chunk.kept, 0.5 * scores[at] + 0.5 * new, scores[at])
        return scores

    def candidates(self, refined: Tensor, scores: Tensor, grid: tuple[int, int]) -> Candidates:
        """Foreground classes above the threshold; the host waits once, for their number.

        Args:
            refined: ``(B, N, C)`` refined scores.
            scores: ``(B, F)`` image scores.
            grid: ``(h, w)``.
        """
        low, high = refined.amin(dim=(1, 2)), refined.amax(dim=(1, 2))
        above = scores > (low + self.threshold * (high - low))[:, None]
        image, label = above.nonzero().unbind(1)
        mask = (min_max(refined[image, :, label], dim=1) > 0.5).unflatten(1, grid)
        box, empty = bounding_boxes(mask)
        stopped = empty
        if self.stop_at_empty_box:
            earlier = empty.new_zeros(len(scores), dtype=torch.long)
            earlier = earlier.index_add_(0, image, empty.long()).cumsum(0)
            earlier = torch.cat([earlier.new_zeros(1), earlier])
            stopped = empty.cumsum(0) > earlier[image]
        return Candidates(image, label, box, mask, ~stopped)

    def crops(
        self, candidates: Candidates, images: Tensor, encoder: DenseEncoder
    ) -> tuple[Tensor, Tensor]:
        """The candidates' regions at the encoder's native size.

        Returns:
            Crops ``(K, 3, H0, W0)``, bilinear, and their masks ``(K, N0)`` bool,
            nearest, on the native grid.
        """
        top, left, bottom, right = candidates.box.unbind(1)
        (height, width), (rows, columns) = encoder.native_size, encoder.native_grid
        y = nearest(top, bottom - top, rows)
        x = nearest(left, right - left, columns)
        index = torch.arange(len(candidates), device=y.device)[:, None, None]
        masks = candidates.mask[index, y[:, :, None], x[:, None, :]].flatten(1)
        cut = crop_one_by_one if images.device.type == 'cpu' else crop_together
        return cut(images, candidates, encoder.patch_size, (height, width)), masks


def crop_one_by_one(
    images: Tensor, candidates: Candidates, patch: int, size: tuple[int, int]
) -> Tensor:
    """Crops ``(K, 3, *size)``, bilinear, of ``(B, 3, H, W)``; the host reads each box."""
    crops = []
    for image, box in zip(candidates.image.tolist(), candidates.box.tolist(), strict=True):
        top, left, bottom, right = (side * patch for side in box)
        region = images[image, None, :, top:bottom, left:right]
        crops.append(F.interpolate(region, size=size, mode='bilinear', align_corners=False))
    return torch.cat(crops)


def crop_together(
    images: Tensor, candidates: Candidates, patch: int, size: tuple[int, int]
) -> Tensor:
    """The same as :func:`crop_one_by_one` in a few operations, without a wait of the host.

    On a CPU, these operations take four times as long.
    """
    top, left, bottom, right = (candidates.box * patch).unbind(1)
    low_y, high_y, down = between(top, bottom - top, size[0])
    low_x, high_x, across = between(left, right - left, size[1])
    pixels, index = images.permute(0, 2, 3, 1), candidates.image[:, None, None]

    def at(y: Tensor, x: Tensor) -> Tensor:
        return pixels[index, y[:, :, None], x[:, None, :]]

    across, down = across[:, None, :, None], down[:, :, None, None]
    upper = torch.lerp(at(low_y, low_x), at(low_y, high_x), across)
    lower = torch.lerp(at(high_y, low_x), at(high_y, high_x), across)
    return torch.lerp(upper, lower, down).permute(0, 3, 1, 2).contiguous()


def nearest(start: Tensor, size: Tensor, count: int) -> Tensor:
    """Places from which ``F.interpolate`` takes the nearest value of a part of a side.

    Args:
        start: ``(K,)`` where the parts begin.
        size: ``(K,)`` their lengths.
        count: Length of the result.

    Returns:
        ``(K, count)`` int64.
    """
    step = (size.float() / count)[:, None]
    place = (torch.arange(count, device=size.device) * step).long()
    return start[:, None] + place.minimum(size[:, None] - 1)


def between(start: Tensor, size: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Places between which ``F.interpolate`` takes bilinear values of a part of a side.

    Args:
        start: ``(K,)`` where the parts begin.
        size: ``(K,)`` their lengths.
        count: Length of the result.

    Returns:
        The place before, the place behind, ``(K, count)`` int64, and the weight of the latter.
        None is outside of its part.
    """
    step = (size.float() / count)[:, None].double()
    # In float64, then rounded, as by the fused operation that F.interpolate uses.
    place = (step * (torch.arange(count, device=size.device) + 0.5) - 0.5).float().clamp(min=0)
    low = place.long().minimum(size[:, None] - 1)
    high = (low + 1).minimum(size[:, None] - 1)
    return start[:, None] + low, start[:, None] + high, (place - low).clamp(0, 1)


def bounding_boxes(masks: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes of masks, far edges clipped as :func:`~mmtagclip.models.maps.far_edge` says.

    Args:
        masks: ``(K, h, w)`` bool.

    Returns:
        ``(K, 4)`` int64 top, left, bottom and right in patches, far edges exclusive, and ``(K,)``
        bool, whether the clipped box is empty. An empty box is returned as one of one patch.
    """
    starts, ends, empty = [], [], ~masks.flatten(1).any(dim=1)
    for dim in (2, 1):
        filled = masks.any(dim=dim).to(torch.uint8)
        size = filled.shape[1]
        start = filled.argmax(dim=1)
        end = far_edge(size - filled.flip(1).argmax(dim=1), size)
        empty = empty | (start >= end)
        starts.append(start)
        ends.append(end.maximum(start + 1))
    return torch.stack([*starts, *ends], dim=1), empty
