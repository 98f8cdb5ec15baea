"""Trident's features: windows spliced to one map, whose places gather along SAM's attention."""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from torch import Tensor, nn

from ...clip import AttentionStatistics, DenseEncoder, DenseFeatures
from ...regions import SAM, Affinity, ProxyLastBlock
from ...regions.sam import SAMImage, neighbours
from ...registry import MODELS
from ..maps import flip_back
from .base import EncodedImage, build
from .windows import SlidingWindows, resize

HALVES = (None, 'equal', 'published')


@MODELS.register_module()
class SAMGatherer(nn.Module):
    """Features of a whole image, gathered along SAM's attention (Trident, 2024).

    The output of the encoder's last block is averaged over the windows on one grid of the whole
    image. Each place of SAM's grid then gathers from the places that SAM attends to, and only the
    result is projected. With a :class:`ProxyLastBlock`, as published, the mean of the cosines is
    that of all windows.

    Args:
        sam: Config of the :class:`SAM`.
        factor: A place gathers from those that are more similar to it, in SAM's values, than this
            factor times its mean similarity; published: 1.2 (VOC20 0, Cityscapes 3).
        negative: What stands for a negative threshold; published: None, 0.6 on Cityscapes and
            ADE20K.
        halves: SAM may see the left and the right half of the image one after the other, for
            images that are twice as wide as high (Cityscapes): ``'equal'``, or
            ``'published'``, which cuts a grid of an odd number of columns beside its middle, so
            that the features are shifted against SAM's halves.

    Raises:
        ValueError: ``halves`` is unknown.
    """

    def __init__(
        self,
        sam: ConfigDict | dict | SAM,
        factor: float = 1.2,
        negative: float | None = None,
        halves: str | None = None,
    ) -> None:
        super().__init__()
        if halves not in HALVES:
            raise ValueError(f"halves must be None, 'equal' or 'published', not {halves!r}")
        self.sam: SAM = build(sam)
        self.factor = factor
        self.negative = negative
        self.halves = halves

    def forward(
        self, encoded: EncodedImage, encoder: DenseEncoder, windows: SlidingWindows
    ) -> DenseFeatures:
        """Features of an image on SAM's grid; not flipped, even if the encoded image is.

        Args:
            encoded: The image, with the original.
            encoder: The encoder.
            windows: How its image is cut.

        Raises:
            ValueError: The windows can't be spliced.
        """
        assert encoded.original is not None
        assert encoded.image is not None
        spliced = flip_back(splice(encoder, windows, encoded.image), encoded.flip)
        if self.halves is None:
            gathered = self.gather(spliced, sam_image(self.sam, encoded, encoder.patch_size))
        else:
            gathered = self.gather_halves(
                spliced, whole_patches(encoded.original, encoder.patch_size)
            )
        patches = F.normalize(project(encoder, gathered), dim=-1)[None]
        none, grid = patches.new_zeros(0), (gathered.shape[1], gathered.shape[2])
        return DenseFeatures(patches, none, grid, none, AttentionStatistics(), grid)

    def gather(self, spliced: Tensor, image: SAMImage) -> Tensor:
        """What each place of SAM's grid gathers.

        Args:
            spliced: ``(width, h, w)``.
            image: The same image, as SAM sees it.

        Returns:
            ``(width, h', w')``.
        """
        z = resize(spliced[None], image.grid)[0].flatten(1).T
        rows = neighbours(*self.sam.attention(image), self.factor, self.negative)
        return torch.cat([weights @ z for weights in rows]).T.unflatten(1, image.grid)

    def gather_halves(self, spliced: Tensor, image: np.ndarray) -> Tensor:
        """The same of an image ``(H, W, 3)`` uint8 RGB, whose halves SAM sees one by one."""
        height, width = spliced.shape[1:]
        if self.halves == 'equal' and width % 2:
            spliced, width = resize(spliced[None], (height, width + 1))[0], width + 1
        column, pixel = width // 2, image.shape[1] // 2
        halves = (
            (spliced[:, :, :column], image[:, :pixel]),
            (spliced[:, :, column:], image[:, pixel:]),
        )
        return torch.cat([self.gather(z, self.sam.encode(half)) for z, half in halves], dim=2)


def sam_image(sam: SAM, image: EncodedImage, patch: int) -> SAMImage:
    """An image as SAM sees it, enlarged to whole patches; encoded once."""
    key = f'SAM {id(sam)} {patch}'
    if key not in image.memo:
        assert image.original is not None
        image.memo[key] = sam.encode(whole_patches(image.original, patch))
    return image.memo[key]


def splice(encoder: DenseEncoder, windows: SlidingWindows, image: Tensor) -> Tensor:
    """The output of the encoder's last block for all windows, averaged on one grid.

    Args:
        encoder: The encoder.
        windows: How the image is cut.
        image: ``(3, H, W)``, normalised; enlarged to whole patches and at least one window.

    Returns:
        ``(width, h, w)`` float32.

    Raises:
        ValueError: Windows do not begin at the borders of patches.
    """
    patch, side = encoder.patch_size, windows.size
    if side % patch or windows.stride % patch:
        raise ValueError(
            f'windows of {side} pixels every {windows.stride} can not be spliced: both must be '
            f'multiples of the patch size {patch}'
        )
    image = fitted(image, patch, side)
    height, width = image.shape[1:]
    places = [(y, x) for y in windows.starts(height) for x in windows.starts(width)]
    crops = [image[:, y : y + side, x : x + side] for y, x in places]
    batches = [
        torch.stack(crops[start : start + windows.max_windows])
        for start in range(0, len(crops), windows.max_windows)
    ]
    total = counts = image.new_zeros(0)
    outputs = (one for batch in last_block_outputs(encoder, batches) for one in batch)
    for (y, x), output in zip(places, outputs, strict=True):
        # Cells per patch: the last block may have a finer grid than the encoder.
        cells = max(1, round(output.shape[1] * patch / side))
        if not total.numel():
            shape = height // patch * cells, width // patch * cells
            total = output.new_zeros(len(output), *shape)
            counts = output.new_zeros(shape)
        count = side // patch * cells
        if output.shape[1] != count:
            output = resize(output[None], (count, count))[0]
        top, left = y // patch * cells, x // patch * cells
        total[:, top : top + count, left : left + count] += output
        counts[top : top + count, left : left + count] += 1
    return total / counts


def last_block_outputs(encoder: DenseEncoder, batches: Sequence[Tensor]) -> Iterator[Tensor]:
    """The output ``(B, width, h, w)`` float32 of the encoder's last block for each batch.

    Args:
        encoder: The encoder.
        batches: All windows of one image, ``(B, 3, H, W)`` each, normalised.
    """
    policy = encoder.last_block
    assert policy is not None
    affinities: Sequence[Affinity] = []
    mean = None
    if isinstance(policy, ProxyLastBlock):
        affinities = [policy.source(encoder.pixels(batch)) for batch in batches]
        mean = mean_similarity(affinities)
    for index, batch in enumerate(batches):
        context = encoder.walk(batch, lambda *_: None)
        if isinstance(policy, ProxyLastBlock):
            output, grid = policy.weigh(context, affinities[index], mean)
        else:
            output, grid = policy(context)
        if not isinstance(output, Tensor):
            raise ValueError(
                f'{type(policy).__name__} has several outputs, which can not be spliced: leave out '
                'the gatherer'
            )
        yield output[:, context.lead :].float().transpose(1, 2).unflatten(2, grid)


def mean_similarity(affinities: Sequence[Affinity]) -> Tensor | None:
    """Mean of the cosines within each image, over all images of all batches.

    Returns:
        A scalar; None without features.
    """
    means = [
        # The mean cosine of rows is the squared length of their mean.
        F.normalize(one.features.float().flatten(2), dim=1).mean(dim=2).square().sum(dim=1)
        for one in affinities
        if one.features is not None
    ]
    return torch.cat(means).mean() if means else None


def project(encoder: DenseEncoder, tokens: Tensor) -> Tensor:
    """Features ``(N, D)`` of the output ``(width, h, w)`` of the last block; not of unit length."""
    patches = tokens.flatten(1).T[None]
    lead = patches.new_zeros(1, encoder.tower.lead, patches.shape[2])
    output = torch.cat([lead, patches], dim=1)
    return encoder.read(output, (tokens.shape[1], tokens.shape[2]))[0][0]


def fitted(image: Tensor, patch: int, least: int) -> Tensor:
    """An image ``(3, H, W)`` enlarged to whole patches and at least ``least`` pixels per side.

    The longer side grows to the next multiple, the other as much, rounded up.
    """
    height, width = image.shape[1:]
    if height % patch or width % patch:
        longer = max(height, width)
        longest = -(-longer // patch) * patch
        height, width = height * longest // longer, width * longest // longer
    height, width = (max(least, -(-side // patch) * patch) for side in (height, width))
    return image if (height, width) == image.shape[1:] else resize(image[None], (height, width))[0]


def whole_patches(original: np.ndarray, patch: int) -> np.ndarray:
    """An image ``(H, W, 3)`` BGR as RGB, enlarged to whole patches."""
    height, width = (-(-side // patch) * patch for side in original.shape[:2])
    rgb = np.ascontiguousarray(original[:, :, ::-1])
    if rgb.shape[:2] == (height, width):
        return rgb
    return cv2.resize(rgb, (width, height), interpolation=cv2.INTER_LINEAR)
