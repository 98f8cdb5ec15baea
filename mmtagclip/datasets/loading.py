"""Load images of all common formats, and resize them to the patch grid."""

import numpy as np
from mmcv.transforms import BaseTransform

from ..images import MAX_PIXELS, PatchGrid, read_image
from ..registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Read an image file as upright BGR pixels; errors say what is wrong with it.

    Reads colour, grey, palette, CMYK, 16-bit and transparent images. Transparent
    parts become white. EXIF rotation is applied.

    Required keys: ``img_path``. Added keys: ``img`` (``(H, W, 3)`` uint8 BGR in
    [0, 255]), ``img_shape``, ``ori_shape``, and ``load_error`` if an unreadable
    image is skipped.

    Args:
        max_side: Images with a longer side, in pixels, are refused.
        max_pixels: Images with more pixels are refused.
        on_error: ``'raise'`` stops at an image that can't be read. ``'skip'``
            marks it with ``load_error`` (a sentence) and continues.

    Raises:
        ValueError: ``on_error`` is neither of these; or the file is empty,
            truncated, too large, or not an image.
        FileNotFoundError: There is no such file.
    """

    def __init__(
        self, max_side: int = 16384, on_error: str = 'raise', max_pixels: int = MAX_PIXELS
    ) -> None:
        if on_error not in ('raise', 'skip'):
            raise ValueError(f"on_error must be 'raise' or 'skip', not {on_error!r}")
        self.max_side = max_side
        self.on_error = on_error
        self.max_pixels = max_pixels

    def transform(self, results: dict) -> dict:
        """Load ``results['img_path']``."""
        try:
            image = read_image(results['img_path'], self.max_side, self.max_pixels)
        except (ValueError, OSError) as error:
            if self.on_error == 'raise':
                raise
            results['load_error'] = str(error)
            image = np.zeros((0, 0, 3), dtype=np.uint8)
        results['img'] = image[..., ::-1]
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results


COMMON_PATCH_SIZE = 16


@TRANSFORMS.register_module()
class ResizeToPatchGrid(BaseTransform):
    """Enlarge an image to the next multiples of the patch size; see :class:`PatchGrid`.

    Required keys: ``img``. Changed keys: ``img``, ``img_shape``,
    ``scale_factor`` (width, height).

    Args:
        patch_size: Patch size of the encoder in pixels. Default: that of the model, which
            ``mmtagclip.PatchGridHook`` and the inferencers set. Where neither runs, such as
            in MMSegmentation's ``inference_model``, it is 16, and a model of another patch
            size refuses images that do not fit.
        size: See :class:`mmtagclip.images.PatchGrid`, like the others.
        max_side: See there.
        max_patches: See there.

    Raises:
        ValueError: ``max_side`` is below 1, or the image makes too many patches.
    """

    def __init__(
        self,
        patch_size: int | None = None,
        size: tuple[int, int] | None = None,
        max_side: int | None = None,
        max_patches: int = 16384,
    ) -> None:
        self.patch_size = patch_size
        self.size, self.max_side, self.max_patches = size, max_side, max_patches
        PatchGrid(COMMON_PATCH_SIZE, size, max_side, max_patches)  # refuses wrong limits at once

    @property
    def grid(self) -> PatchGrid:
        """The grid that images are resized to."""
        return PatchGrid(
            self.patch_size or COMMON_PATCH_SIZE, self.size, self.max_side, self.max_patches
        )

    def transform(self, results: dict) -> dict:
        """Resize ``results['img']``."""
        if results.get('load_error') is not None:
            return results
        old_height, old_width = results['img'].shape[:2]
        results['img'] = self.grid.resize(results['img'], results.get('img_path', 'an image'))
        height, width = results['img_shape'] = results['img'].shape[:2]
        results['scale_factor'] = (width / old_width, height / old_height)
        return results


@TRANSFORMS.register_module()
class KeepImage(BaseTransform):
    """Keep a copy of the loaded image for a post-processor.

    Required keys: ``img``. Added keys: ``original``, ``(H, W, 3)`` uint8. Put this
    before any transform that resizes or flips.
    """

    def transform(self, results: dict) -> dict:
        """Copy ``results['img']``."""
        results['original'] = results['img'].copy()
        return results
