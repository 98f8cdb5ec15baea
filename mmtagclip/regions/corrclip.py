"""A last block whose patches gather within regions (CorrCLIP, ICCV 2025)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from torch import Tensor

from ..clip.last_blocks import LastBlock, LastBlockContext, Prepared, Start, Streams
from ..registry import MODELS
from .features import AffinitySource
from .grids import nearest_map

# Published constants, the same for every model and data set.
SHARPNESS = 4.0
MERGE_DISTANCE = 0.2
# How many blocks' outputs the spatial branch averages, by the number of blocks.
SPATIAL_BLOCKS = {12: 5, 24: 12, 32: 28}
# Entries of the attention that are held together: 64 MB.
ENTRIES = 2**24


@dataclass(frozen=True, kw_only=True)
class Correlation(Prepared):
    """What belongs together in each image.

    Attributes:
        unit: ``(B, N', C')``, the source's features, of unit length.
        grid: ``(h', w')`` of these.
        index: ``(B, N')``, the region of each, 0 for none; merged, if they are.
        rider: ``(B, N)``, which rider belongs to each of CLIP's patches.
    """

    unit: Tensor
    grid: tuple[int, int]
    index: Tensor
    rider: Tensor | None = None


@MODELS.register_module()
class CorrCLIPLastBlock(LastBlock):
    """Values weighted by another model's features, within regions; no residual, no MLP.

    A patch gathers from the patches of its region, by ``softmax(4 * S)`` over the cosines ``S`` of
    the source's features. Patches of no region gather from all that are more alike than the mean
    of the image, and these from them. To the result are added the same of the mean of earlier
    blocks' outputs (spatial branch), and a class token for each region that sees only the region
    (region token), each after the tower's norm. The patches stay on the source's grid. Each image
    of a batch is processed separately.

    Args:
        source: Config of the :class:`AffinitySource`.
        whole_image: Whether the source sees the whole original image once (CorrCLIP's second
            version), not each window. Its features are then read on twice CLIP's grid.
        merge: Whether regions with similar features become one. Default: yes, but not with
            ``whole_image``, as published.
        spatial_weight: Weight of the spatial branch; published: 1.
        region_weight: Weight of the region tokens; published: 0.5. It must be 0 for a model
            without a class token.
        spatial_layers: Blocks, from 0, whose outputs are averaged. Published: 5 to 9 of 12, 10 to
            21 of 24, 2 to 29 of 32; 2 to L-3 of another depth.
        lowest_is_none: Whether the lowest id in a window belongs to no region, as in the released
            code, instead of id 0. In a window without such pixels, one real region is then none.

    Raises:
        ValueError: ``spatial_layers`` is empty.
    """

    needs_regions = True

    def __init__(
        self,
        source: ConfigDict | dict | AffinitySource,
        whole_image: bool = False,
        merge: bool | None = None,
        spatial_weight: float = 1.0,
        region_weight: float = 0.5,
        spatial_layers: Sequence[int] | None = None,
        lowest_is_none: bool = False,
    ) -> None:
        super().__init__(residual=False, mlp=False)
        if spatial_layers is not None and not spatial_layers:
            raise ValueError(
                'CorrCLIPLastBlock needs at least one spatial layer: to leave the branch out, set '
                'spatial_weight=0'
            )
        self.source: AffinitySource = MODELS.build(source) if isinstance(source, dict) else source
        self.whole_image = whole_image
        self.merge = not whole_image if merge is None else merge
        self.spatial_weight = spatial_weight
        self.region_weight = region_weight
        self._spatial_layers = spatial_layers
        self.lowest_is_none = lowest_is_none
        self.set_depth(12)

    @property
    def needs_pixels(self) -> bool:  # type: ignore[override]
        """Whether the source sees each window."""
        return not self.whole_image

    @property
    def whole_grid(self) -> int | None:  # type: ignore[override]
        """Cells per patch and side of the features of the whole image."""
        return 2 if self.whole_image else None

    def set_depth(self, num_blocks: int) -> None:
        """See :class:`LastBlock`."""
        count = max(SPATIAL_BLOCKS.get(num_blocks, num_blocks - 4), 1)
        first = max(num_blocks - 2 - count, 0)
        layers = tuple(range(first, max(num_blocks - 2, first + 1)))
        layers = layers if self._spatial_layers is None else tuple(self._spatial_layers)
        # The output of block i is the input of block i + 1.
        self.block_inputs = tuple(layer + 1 for layer in layers) if self.spatial_weight else ()

    def extra_repr(self) -> str:
        """The source and the options, as printed."""
        source = f'{type(self.source).__name__}({self.source.extra_repr()})'
        return f'source={source}, {super().extra_repr()}'

    def whole_features(self, pixels: Tensor) -> Tensor:
        """Compute the source's features of a whole image; see :class:`LastBlock`."""
        return self._features(pixels)[0]

    def prepare(self, start: Start) -> Correlation:
        """Find what belongs together, and make the region tokens.

        Raises:
            ValueError: The source returns no features, or the tower has no class token.
        """
        regions, features = start.companions.regions, start.companions.features
        assert regions is not None
        if features is None:
            assert start.pixels is not None
            features = self._features(start.pixels)
        grid = (features.shape[2], features.shape[3])
        unit = F.normalize(features.float().flatten(2).transpose(1, 2), dim=-1)
        ids = nearest_map(regions, grid).flatten(1)
        index = torch.stack([self.group(*one) for one in zip(ids, unit, strict=True)])
        if not self.region_weight:
            return Correlation(unit=unit, grid=grid, index=index)
        if not start.lead:
            raise ValueError(
                'the region tokens of CorrCLIPLastBlock are copies of the class token, which this '
                'model does not have: set region_weight=0'
            )
        patches = nearest_map(index.unflatten(1, grid), start.grid).flatten(1)
        rider = torch.stack([one.unique(return_inverse=True)[1] for one in patches])
        numbers = torch.arange(int(rider.max()) + 1, device=rider.device)
        seen = rider[:, None] == numbers[:, None]
        riders = start.x[:, :1].expand(-1, len(numbers), -1)
        return Correlation(riders=riders, seen=seen, unit=unit, grid=grid, index=index, rider=rider)

    def group(self, ids: Tensor, unit: Tensor) -> Tensor:
        """Number the regions of an image from 1, merged if they are alike; 0 is none.

        Args:
            ids: ``(N',)``, the id of each place.
            unit: ``(N', C')``, its features, of unit length.

        Returns:
            ``(N',)`` int64.
        """
        values, place = ids.unique(return_inverse=True)
        none = values[0] if self.lowest_is_none else 0
        real = values != none
        numbers = torch.where(real, real.cumsum(0), 0)
        if self.merge and real.sum() > 1:
            total = unit.new_zeros(len(values), unit.shape[1]).index_add_(0, place, unit)
            means = F.normalize(total[real], dim=-1)
            cosines = means @ means.T
            numbers[real] = 1 + components(cosines.max() - cosines <= MERGE_DISTANCE)
        return numbers[place]

    def forward(self, context: LastBlockContext) -> tuple[Streams, tuple[int, int]]:
        """Run the block; the tokens in front of the patches are those of its input.

        Returns:
            The streams and the source's grid.
        """
        found: Correlation = context.prepared
        block, lead, grid = context.block, context.lead, found.grid
        values = [context.qkv[2]]
        if self.spatial_weight:
            total = sum(
                (context.inputs[layer] for layer in self.block_inputs), torch.zeros_like(context.x)
            )
            values.append(block.query_key_value(total / len(self.block_inputs))[2])
        maps = torch.cat([one[:, :, lead:].transpose(2, 3).flatten(1, 2) for one in values], dim=1)
        maps = maps.float().unflatten(2, context.grid)
        maps = F.interpolate(maps, size=grid, mode='bilinear', align_corners=False)
        gathered = torch.stack(
            [
                self.gather_values(*one)
                for one in zip(
                    found.unit, found.index, maps.flatten(2).transpose(1, 2), strict=True
                )
            ]
        )
        streams = [
            (weight, block.attention_output(one[:, None].to(values[0].dtype)))
            for weight, one in zip(
                (1.0, self.spatial_weight), gathered.chunk(len(values), dim=-1), strict=False
            )
        ]
        if self.region_weight:
            assert context.riders is not None
            assert found.rider is not None
            rider = nearest_map(found.rider.unflatten(1, context.grid), grid).flatten(1)
            width = context.riders.shape[-1]
            tokens = context.riders.gather(1, rider[..., None].expand(-1, -1, width))
            streams.append((self.region_weight, tokens))
        front = context.x[:, :lead]
        return [(weight, torch.cat([front, one], dim=1)) for weight, one in streams], grid

    @staticmethod
    def attention(unit: Tensor, index: Tensor, rows: slice) -> Tensor:
        """Some rows ``(n, N')`` of the attention of an image, each of which sums to 1.

        Args:
            unit: ``(N', C')``, of unit length.
            index: ``(N',)``, the region of each place, 0 for none.
            rows: Which.
        """
        similarity = unit[rows] @ unit.T
        here = index[rows, None]
        # The mean of all cosines is the squared length of the mean vector.
        alike = similarity > unit.mean(dim=0).square().sum()
        seen = torch.where((here == 0) | (index == 0), alike, here == index)
        # A place sees itself, even if it is like no other (an image of one colour).
        numbers = torch.arange(len(unit), device=unit.device)
        seen |= numbers[rows, None] == numbers
        return (SHARPNESS * similarity).masked_fill(~seen, -torch.inf).softmax(dim=-1)

    def gather_values(self, unit: Tensor, index: Tensor, values: Tensor) -> Tensor:
        """Multiply the attention of an image with values ``(N', width)``, some rows at a time."""
        step = max(ENTRIES // len(unit), 1)
        return torch.cat(
            [
                self.attention(unit, index, slice(first, first + step)) @ values
                for first in range(0, len(unit), step)
            ]
        )

    def _features(self, pixels: Tensor) -> Tensor:
        features = self.source(pixels).features
        if features is None or features.ndim != 4 or len(features) != len(pixels):
            raise ValueError(
                f"{type(self.source).__name__} must return features (B, C', h', w') for a batch of "
                f'{len(pixels)} images'
            )
        return features


def components(joined: Tensor) -> Tensor:
    """Number the connected components of a graph.

    Args:
        joined: ``(K, K)`` bool, symmetric.

    Returns:
        ``(K,)`` int64, from 0, in the order of each component's first node.
    """
    count = len(joined)
    lowest = torch.arange(count, device=joined.device)
    while True:
        near = torch.where(joined, lowest, count).amin(dim=1).minimum(lowest)
        near = near[near]
        if torch.equal(near, lowest):
            return lowest.unique(return_inverse=True)[1]
        lowest = near
