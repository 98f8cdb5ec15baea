"""Region ids of images, as files: which pixels belong together."""

import json
import math
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..images import read_index_mask
from ..labels import decode_segmentation

KEY = 'instance_mask'  # of an .npz file, as CorrCLIP's
ENDINGS = ('.npz', '.png')
LARGEST = 2**31 - 2


class RegionFile(NamedTuple):
    """Where the regions of an image are.

    Attributes:
        path: The file.
        image: What a COCO file holds of the image; None for other files.
    """

    path: Path
    image: 'CocoImage | None' = None


class CocoImage(NamedTuple):
    """What a COCO file holds of an image.

    Attributes:
        size: ``(H, W)``.
        masks: As RLE or polygons.
        scores: One per mask; None without scores.
    """

    size: tuple[int, int]
    masks: Sequence[Any]
    scores: Sequence[float] | None = None


def region_files(path: str | Path, min_score: float = 0.0) -> list[tuple[str, RegionFile]]:
    """List the images whose regions are in a folder or in a COCO file.

    Args:
        path: A folder with one file per image, called like the image, also in subfolders, or the
            ``--out`` of ``mmtagclip regions``: ``.npz``
            with the integers ``instance_mask`` ``(H, W)``, or ``.png``, grey of 8 or 16 bits. Or a
            COCO file with masks as RLE or polygons: ids are 1, 2, ... in the file's order. A mask
            hides those before it, or, if the annotations have a ``score``, those of a lower score.
        min_score: Masks of a lower score are left out and get no id. Only for a COCO file with
            scores.

    Returns:
        Path of each image, and where its regions are: relative to the folder and without ending,
        unless the file is called like ``1.jpg.png``; or as the COCO file has it.

    Raises:
        FileNotFoundError: There is nothing at this path.
        ValueError: A folder without such files, a file that is no COCO file, or one without scores
            for ``min_score``.
    """
    path = Path(path)
    if path.is_dir():
        if min_score:
            raise ValueError(f'min_score is for a COCO file with scores, but {path} is a folder')
        # The folder of `mmtagclip regions` holds them in one of its own.
        if (path / 'manifest.json').is_file() and (path / 'regions').is_dir():
            path = path / 'regions'
        found = [
            (file.relative_to(path).with_suffix('').as_posix(), RegionFile(file))
            for file in sorted(path.rglob('*'))
            if file.suffix.lower() in ENDINGS
        ]
        if not found:
            raise ValueError(f'{path} holds no {" or ".join(ENDINGS)} files of regions')
        return found
    if not path.is_file():
        raise FileNotFoundError(f'no regions at {path}: name a folder of files, or a COCO file')
    try:
        content = json.loads(path.read_bytes())
        scored = any('score' in one for one in content['annotations'])
        masks: dict[Any, list[tuple[Any, float]]] = {}
        for one in content['annotations']:
            score = float(one['score']) if scored else 1.0
            if math.isnan(score):
                raise ValueError('a score is no number')
            if score >= min_score:
                masks.setdefault(one['image_id'], []).append((one['segmentation'], score))
        entries = []
        for image in content['images']:
            size = int(image['height']), int(image['width'])
            if min(size) < 1:
                raise ValueError(f'{image["file_name"]} is {size[1]}x{size[0]} pixels')
            drawn = masks.get(image['id'], [])
            scores = [score for _, score in drawn] if scored else None
            entry = RegionFile(path, CocoImage(size, [mask for mask, _ in drawn], scores))
            entries.append((str(image['file_name']), entry))
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(
            f'{path} is no COCO file of masks ({type(error).__name__}: {error}): it needs images '
            'with id, file_name, height and width, and annotations with image_id and segmentation, '
            'all or none with a score'
        ) from None
    if min_score and not scored:
        raise ValueError(f'min_score is for a COCO file with scores, but {path} has none')
    return entries


def read_regions(file: RegionFile | str | Path, unsegmented: int = 0) -> np.ndarray:
    """Read the region of each pixel of an image.

    Args:
        file: Of :func:`region_files`, or the path of an ``.npz`` or ``.png`` file.
        unsegmented: Id in the file of pixels that belong to no region. All ids are moved so that it
            becomes 0.

    Returns:
        ``(H, W)`` int32, 0 for no region.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, holds something else or ids below ``unsegmented``; the
            message names it.
    """
    file = file if isinstance(file, RegionFile) else RegionFile(Path(file))
    ids = _load(file.path) if file.image is None else _draw(file.path, file.image)
    if ids.ndim != 2 or not np.issubdtype(ids.dtype, np.integer) or not ids.size:
        raise ValueError(
            f'{file.path} needs integers (H, W), one id per pixel, not {ids.dtype} {ids.shape}'
        )
    lowest, highest = int(ids.min()), int(ids.max())
    if lowest < unsegmented or highest - unsegmented > LARGEST:
        raise ValueError(
            f'{file.path} has ids from {lowest} to {highest}, but ids must be from {unsegmented} '
            f'(no region) to {LARGEST + unsegmented}: set unsegmented to the id of no region'
        )
    return (ids.astype(np.int64) - unsegmented).astype(np.int32)


def _load(path: Path) -> np.ndarray:
    if path.suffix.lower() != '.npz':
        return read_index_mask(path)
    if not path.is_file():
        raise FileNotFoundError(f'no regions at {path}')
    try:
        arrays = np.load(path, allow_pickle=False)
        if isinstance(arrays, np.ndarray):
            raise ValueError('it is an .npy file')
        with arrays:
            if KEY not in arrays:
                raise ValueError(f'it has no {KEY!r}, only {", ".join(arrays) or "nothing"}')
            ids = arrays[KEY]
        if not isinstance(ids, np.ndarray):
            raise ValueError(f'its {KEY!r} is no array')
        return ids
    # RuntimeError: zipfile says so of methods, versions and passwords that it doesn't know.
    except (
        ValueError, OSError, EOFError, MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error
    ) as error:  # fmt: skip
        raise ValueError(f'{path} is no .npz file of regions: {error}') from None


def paint(
    masks: Sequence[np.ndarray], size: tuple[int, int], scores: Sequence[float] | None = None
) -> np.ndarray:
    """Regions of masks that overlap.

    Args:
        masks: ``(H, W)`` bool each.
        size: ``(H, W)``.
        scores: One per mask: a mask hides those of a lower score, and those before it of the same
            (EntitySeg). If None, a mask hides those before it.

    Returns:
        ``(H, W)`` int32: 0 where there is no mask, else the place of the mask in the list, from 1.

    Raises:
        ValueError: A mask has another size.
    """
    order: Sequence[int] = range(len(masks))
    if scores is not None:
        order = sorted(order, key=lambda index: scores[index])
    ids = np.zeros(size, dtype=np.int32)
    for index in order:
        mask = np.asarray(masks[index], dtype=bool)
        if mask.shape != tuple(size):
            raise ValueError(f'mask {index} is {mask.shape}, not {tuple(size)}')
        ids[mask] = index + 1
    return ids


class _Decoded(Sequence):
    """The masks of an image of a COCO file, each decoded when it is asked for."""

    def __init__(self, image: CocoImage) -> None:
        self.image = image

    def __len__(self) -> int:
        return len(self.image.masks)

    def __getitem__(self, index: Any) -> Any:
        mask = self.image.masks[index]
        if mask == []:
            raise ValueError('it is empty')
        return decode_segmentation(mask, self.image.size)


def _draw(path: Path, image: CocoImage) -> np.ndarray:
    """Paint the masks of an image of a COCO file."""
    try:
        return paint(_Decoded(image), image.size, image.scores)
    except ValueError as error:
        height, width = image.size
        raise ValueError(
            f'{path} has a mask that is neither RLE nor polygons of {height}x{width} pixels: '
            f'{error}'
        ) from None
