"""Batches of images that the encoder can process together."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any

from torch.utils.data import BatchSampler
from tqdm import tqdm

from ..images import image_size
from ..registry import DATA_SAMPLERS
from .loading import ResizeToPatchGrid


def same_grid_batches(
    indices: Iterable[int], grid_of: Callable[[int], Hashable], batch_size: int
) -> list[list[int]]:
    """Group images into batches of one patch grid each.

    Full batches come first, in the order in which they fill up, then the others.
    The last index remains the last of all: a distributed sampler repeats images at
    its end, and evaluation drops as many results there.

    Args:
        indices: Indices of the images.
        grid_of: Returns the patch grid of an image, or any other key that must be
            equal within a batch.
        batch_size: Maximum number of images per batch.
    """
    indices = list(indices)
    if not indices:
        return []
    *body, last = indices
    batches: list[list[int]] = []
    open_batches: dict[Hashable, list[int]] = defaultdict(list)
    for index in body:
        batch = open_batches[grid_of(index)]
        batch.append(index)
        if len(batch) == batch_size:
            batches.append(open_batches.pop(grid_of(index)))
    final = [*open_batches.pop(grid_of(last), []), last]
    return [*batches, *open_batches.values(), final]


@DATA_SAMPLERS.register_module()
class SameGridBatchSampler(BatchSampler):
    """A batch sampler that groups images of the same size on the patch grid.

    The encoder processes images of one size together and never pads. It splits a
    batch of mixed sizes again. The sizes are read from the files' headers before the
    first batch. Use this as ``batch_sampler`` of a data loader with
    ``pseudo_collate``.

    Args:
        sampler: Sampler of the indices. Its ``dataset`` has ``ResizeToPatchGrid`` in
            its pipeline. The runner sets it.
        batch_size: Maximum number of images per batch. The runner sets it.

    Raises:
        ValueError: The pipeline has no ``ResizeToPatchGrid``, or ``batch_size`` < 1.
    """

    def __init__(self, sampler: Any, batch_size: int) -> None:
        if batch_size < 1:
            raise ValueError(f'SameGridBatchSampler needs batch_size >= 1, not {batch_size}')
        transforms = getattr(getattr(sampler.dataset, 'pipeline', None), 'transforms', ())
        resize = [one for one in transforms if isinstance(one, ResizeToPatchGrid)]
        if not resize:
            raise ValueError(
                'SameGridBatchSampler needs mmtagclip.ResizeToPatchGrid in the '
                'pipeline of the data set, to know the size of each image'
            )
        super().__init__(sampler, batch_size, drop_last=False)
        self.dataset: Any = sampler.dataset
        self.resize = resize[0]
        self._grids: dict[int, tuple[int, int] | None] = {}
        self._length: int | None = None

    def __iter__(self) -> Iterator[list[int]]:
        batches = self.batches(self.sampler)
        self._length = len(batches)
        return iter(batches)

    def __len__(self) -> int:
        if self._length is None:
            self._length = len(self.batches(self.sampler))
        return self._length

    def batches(self, indices: Iterable[int]) -> list[list[int]]:
        """Group these images into batches; see :func:`same_grid_batches`."""
        indices = list(indices)  # only once: a sampler may return others the next time
        new = [index for index in indices if index not in self._grids]
        for index in tqdm(new, desc='Reading image sizes', unit='image', delay=2, leave=False):
            self._grids[index] = self._size(index)
        return same_grid_batches(indices, self._grids.__getitem__, self.batch_size)

    def _size(self, index: int) -> tuple[int, int] | None:
        """Return the resized size ``(H, W)`` of an image in pixels; None if it can't be read."""
        try:
            size = image_size(self.dataset.get_data_info(index)['img_path'])
        except (ValueError, OSError):  # the pipeline's `on_error` decides
            return None
        return self.resize.grid.target_size(*size)
