"""A run that finds the regions of images and writes one file per image."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..jobs.description import Source, file_stamp, flatten
from ..jobs.identity import identity
from ..jobs.runner import Job, Manifest, read_results
from ..records import ImageRecord
from ..regions.automatic import RegionSource
from ..regions.files import KEY
from .inputs import ImageInput

ENDINGS = ('png', 'npz')


def write_regions(
    source: RegionSource,
    images: Sequence[ImageInput],
    out: str | Path,
    *,
    ending: str = 'png',
    shard: tuple[int, int] = (0, 1),
    on_error: str = 'skip',
    replace: bool = False,
    show_progress: bool = True,
) -> dict[str, str] | None:
    """Write the regions of images to the folder ``OUT/regions``, for ``mmtagclip.LoadRegions``.

    ``OUT`` is a folder of results, see :mod:`mmtagclip.jobs.runner`: started again with the same
    arguments, a run that was stopped resumes.

    Args:
        source: What finds the regions.
        images: Files.
        out: The folder.
        ending: ``'png'``, grey of 16 bits, or ``'npz'``, as CorrCLIP's files.
        shard: ``(index, count)``, to do only one of ``count`` equal shares of the images. The
            share that ends last completes the folder.
        on_error: ``'raise'``, or ``'skip'`` images that can't be read.
        replace: Whether to replace results that are there, when the run ends.
        show_progress: Whether to show a progress bar.

    Returns:
        For each image that could not be read, by its path, the reason; None if shares of others
        are still missing.

    Raises:
        TypeError: An image that is not a file.
        ValueError: Another run was begun there, an option is unknown, an image has more regions
            than a PNG of 16 bits holds, or ``on_error='raise'`` and an image can't be read.
    """
    index, count = shard
    if not 0 <= index < count:
        raise ValueError(f'shard must be (index, count) with 0 <= index < count, not {shard}')
    if ending not in ENDINGS:
        raise ValueError(f'regions are written as {" or ".join(ENDINGS)}, not {ending!r}')
    if on_error not in ('raise', 'skip'):
        raise ValueError(f"on_error must be 'raise' or 'skip', not {on_error!r}")
    for image in images:
        if not isinstance(image.source, Path):
            raise TypeError(f'{image.name} is not a file, so its regions could not be named')
    sources = [Source(image.name, file_stamp(str(image.source))) for image in images]
    manifest = Manifest('regions', (), flatten({'source': identity(source), 'ending': ending}))
    run = Job(out, manifest, sources, fixed_images=count > 1, replace=replace)
    share = range(index, len(images), count)
    left = [one for (one,) in run.left([[one] for one in share])]
    try:
        for one in tqdm(left, unit='image', disable=None if show_progress else True):
            _add(run, one, images[one], source, ending, on_error)
    finally:
        run.commit()
    if not run.finish():
        if count > 1:
            return None
        raise FileNotFoundError(f'results in {run.root} were removed meanwhile; start again')
    records = read_results(run.root)[1]
    return {record.image: record.error for record in records if record.error is not None}


def _add(
    run: Job, index: int, image: ImageInput, source: RegionSource, ending: str, on_error: str
) -> None:
    try:
        pixels = image.read()
    except (ValueError, OSError) as error:
        if on_error == 'raise':
            raise
        run.add(index, ImageRecord(image.name, error=str(error)))
        return
    ids = source(pixels)
    record = ImageRecord(
        image.name, size=ids.shape, more={'num_regions': len(np.unique(ids[ids > 0]))}
    )
    run.add(index, record, {f'regions.{ending}': encode_regions(ids, ending, image.name)})


def encode_regions(ids: np.ndarray, ending: str, name: str = 'an image') -> bytes:
    """Content of a file of regions.

    Args:
        ids: ``(H, W)`` integers, 0 for no region.
        ending: See :func:`write_regions`.
        name: Of the image, for the message.

    Raises:
        ValueError: An id does not fit into 16 bits.
    """
    buffer = io.BytesIO()
    if ending == 'npz':
        arrays: dict[str, Any] = {KEY: ids.astype(np.int32)}
        np.savez_compressed(buffer, **arrays)
        return buffer.getvalue()
    if ids.max(initial=0) > np.iinfo(np.uint16).max:
        raise ValueError(
            f'{name} has the region {ids.max()}, but a PNG holds at most '
            f'{np.iinfo(np.uint16).max}: write npz'
        )
    Image.fromarray(ids.astype(np.uint16)).save(buffer, 'png')
    return buffer.getvalue()
