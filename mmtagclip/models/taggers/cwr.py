"""CWR, the class-wise reidentification of candidates in their own region (TagCLIP, sec. 3.4)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...clip import DenseEncoder
from ...registry import MODELS
from ..maps import far_edge, min_max
from .scoring import name_scores


@dataclass(frozen=True)
class Candidate:
    """A class of an image that scores high enough to be identified again.

    Attributes:
        image: Index in the batch.
        label: Index of the foreground class.
        box: ``(top, left, bottom, right)`` in patches, far edges exclusive.
        mask: ``(h, w)`` bool, the patches that show the class.
    """

    image: int
    label: int
    box: tuple[int, int, int, int]
    mask: Tensor


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
                probability = torch.cat(
                    [
                        name_scores(token[None], text[candidate.image], encoder, scoring)
                        for token, candidate in zip(class_tokens, chunk, strict=True)
                    ]
                )
            else:
                probability = name_scores(class_tokens, text, encoder, scoring, owners)
            for row, candidate in zip(probability, chunk, strict=True):
                at = candidate.image, candidate.label
                name = candidate.label if labels is None else labels[at]
                scores[at] = 0.5 * scores[at] + 0.5 * row[name]
        return scores

    def candidates(self, refined: Tensor, scores: Tensor, grid: tuple[int, int]) -> list[Candidate]:
        """Foreground classes above the threshold whose box is not empty, in class order."""
        low, high = refined.amin(dim=(1, 2)), refined.amax(dim=(1, 2))
        above = scores > (low + self.threshold * (high - low))[:, None]
        found: list[Candidate] = []
        for image, labels in enumerate(above.cpu()):
            for label in labels.nonzero().flatten().tolist():
                mask = (min_max(refined[image, :, label], dim=0) > 0.5).cpu().unflatten(0, grid)
                box = bounding_box(mask)
                if box is not None:
                    found.append(Candidate(image, label, box, mask))
                elif self.stop_at_empty_box:
                    break
        return found

    def crops(
        self, candidates: list[Candidate], images: Tensor, encoder: DenseEncoder
    ) -> tuple[Tensor, Tensor]:
        """The candidates' regions at the encoder's native size.

        Returns:
            Crops ``(k, 3, H0, W0)``, bilinear, and their masks ``(k, N0)`` bool,
            nearest, on the native grid.
        """
        crops, masks, patch = [], [], encoder.patch_size
        for candidate in candidates:
            top, left, bottom, right = candidate.box
            region = images[
                candidate.image, None, :, top * patch : bottom * patch, left * patch : right * patch
            ]
            crops.append(
                F.interpolate(
                    region, size=encoder.native_size, mode='bilinear', align_corners=False
                )
            )
            mask = candidate.mask[None, None, top:bottom, left:right].float()
            masks.append(F.interpolate(mask, size=encoder.native_grid, mode='nearest').flatten())
        return torch.cat(crops), torch.stack(masks).to(images.device) > 0.5


def bounding_box(mask: Tensor) -> tuple[int, int, int, int] | None:
    """Box of a mask, far edges clipped as :func:`~mmtagclip.models.maps.far_edge` says.

    Args:
        mask: ``(h, w)`` bool.

    Returns:
        ``(top, left, bottom, right)`` in patches, far edges exclusive; None if
        the clipped box is empty.
    """
    rows, columns = mask.any(dim=1).nonzero(), mask.any(dim=0).nonzero()
    top, left = int(rows[0]), int(columns[0])
    bottom = far_edge(int(rows[-1]) + 1, mask.shape[0])
    right = far_edge(int(columns[-1]) + 1, mask.shape[1])
    return (top, left, bottom, right) if top < bottom and left < right else None
