"""Load the regions of images: which of their pixels belong together."""

import os

import numpy as np
from mmcv.transforms import BaseTransform

from ..jobs.description import file_stamp
from ..regions.files import RegionFile, read_regions, region_files
from ..registry import TRANSFORMS
from .image_index import ImageIndex


@TRANSFORMS.register_module()
class LoadRegions(BaseTransform):
    """Look the regions of an image up in a folder or in a COCO file.

    Required keys: ``img_path``, ``ori_shape``. Added keys: ``regions``, ``(H, W)`` int32 at the
    original size, 0 for no region; and ``load_error`` if an image without valid regions is skipped.
    It may be anywhere after the loading transform: regions are neither resized nor flipped.

    An image is found by its file name without ending; if several are called so, by as much of its
    path as the folder or the file has, the longest of several.

    Args:
        path: See :func:`mmtagclip.regions.region_files`.
        unsegmented: Id in the files of pixels that belong to no region; some tools write -1.
        on_error: ``'raise'`` stops at an image without valid regions. ``'skip'`` marks it with
            ``load_error`` (a sentence) and continues.
        min_score: See :func:`mmtagclip.regions.region_files`; EntitySeg's regions: 0.5.

    Raises:
        FileNotFoundError: There is nothing at the path.
        ValueError: ``on_error`` is neither of these; there are no scores for ``min_score``; or the
            regions of an image are missing, damaged or of another size.
    """

    def __init__(
        self, path: str, unsegmented: int = 0, on_error: str = 'raise', min_score: float = 0.0
    ) -> None:
        if on_error not in ('raise', 'skip'):
            raise ValueError(f"on_error must be 'raise' or 'skip', not {on_error!r}")
        entries = region_files(path, min_score)
        self._index = ImageIndex(path, entries)
        # What a job knows the files by.
        self.stamps = {name: file_stamp(entry.path) for name, entry in entries}
        self.unsegmented = unsegmented
        self.on_error = on_error
        self.min_score = min_score

    def transform(self, results: dict) -> dict:
        """Add the regions of ``results['img_path']``."""
        if results.get('load_error') is not None:
            return results
        try:
            results['regions'] = self._read(str(results['img_path']), results['ori_shape'][:2])
        except (ValueError, OSError) as error:
            if self.on_error == 'raise':
                raise
            results['load_error'] = str(error)
        return results

    def find(self, path: str) -> RegionFile:
        """Where the regions of an image are.

        Raises:
            ValueError: There are none, or several files are called like the image.
        """
        # Absolute: in a subfolder, 1.jpg is not the 1.jpg of the folder above.
        return self._index.find(os.path.abspath(path))

    def _read(self, path: str, size: tuple[int, int]) -> np.ndarray:
        found = self.find(path)
        regions = read_regions(found, self.unsegmented)
        if regions.shape != tuple(size):
            (height, width), (rows, columns) = size, regions.shape
            raise ValueError(
                f'{path} is {width}x{height} pixels, but its regions in {found.path} are '
                f'{columns}x{rows}: they belong to another image, or to another size of it'
            )
        return regions
