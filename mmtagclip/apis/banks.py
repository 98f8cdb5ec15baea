"""Memory banks of the regions of a folder of images, made by a job that can be resumed."""

from ..frameworks import segmentation  # noqa: F401

# isort: split
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from tqdm import tqdm

from ..clip.downloads import settle_downloads
from ..datasets import LoadRegions
from ..devices import check_device
from ..files import make_folder, write_whole
from ..jobs.description import Source, digest, file_stamp, flatten, hash_of
from ..jobs.identity import identity
from ..jobs.runner import (
    Job,
    Manifest,
    only_clean_up_is_left,
    read_results,
    remove_results,
    unfinished,
)
from ..models import ReferenceEncoder, RegionEncoder
from ..records import ImageRecord
from ..regions.bank import DTYPES, MemoryBank, bank_content, source_identity
from ..registry import MODELS
from ..version import __version__
from .inputs import ImageInput, list_images
from .model_zoo import load_config

ENDING = '.safetensors'
Part = TypeVar('Part', bound=torch.nn.Module)


def load_region_encoder(
    model: Any, device: str | None = None, *, download: bool = False
) -> RegionEncoder:
    """Build what makes the rows of a bank.

    Args:
        model: Path or name of a config, a config, or a built :class:`RegionEncoder`.
        device: ``'cpu'``, ``'cuda:0'`` and so on; cuda if available by default. A built one stays
            where it is.
        download: Whether weights that are not on this machine may be downloaded.

    Raises:
        FileNotFoundError: There is no such config, or weights would have to be downloaded.
        ValueError: It is no config of a :class:`RegionEncoder`, or the device can't be used.
    """
    what = 'a memory bank is made by a RegionEncoder', 'configs/_base_/banks/corrclip.py'
    return _load(RegionEncoder, what, model, device, download)


def load_reference_encoder(
    model: Any, device: str | None = None, *, download: bool = False
) -> ReferenceEncoder:
    """Build what finds references; the arguments are those of :func:`load_region_encoder`.

    Raises:
        FileNotFoundError: There is no such config, or weights would have to be downloaded.
        ValueError: It is no config of a :class:`ReferenceEncoder`, or the device can't be used.
    """
    what = 'references are made by a ReferenceEncoder', 'configs/_base_/banks/reco.py'
    return _load(ReferenceEncoder, what, model, device, download)


def _load(
    kind: type[Part], what: tuple[str, str], model: Any, device: str | None, download: bool
) -> Part:
    check_device(device)
    if not isinstance(model, kind):
        config = load_config(model)
        settle_downloads(config.model, download)
        built = MODELS.build(config.model)
        if not isinstance(built, kind):
            raise ValueError(
                f'{what[0]}, not by a {type(built).__name__}: name a config of one, such as '
                f'{what[1]}'
            )
        model, device = built, device or ('cuda' if torch.cuda.is_available() else 'cpu')
    return model.eval() if device is None else model.eval().to(device)


def build_bank(
    model: RegionEncoder,
    inputs: Any,
    regions: str | Path,
    out: str | Path,
    *,
    dtype: str = 'float16',
    unsegmented: int = 0,
    shard: Sequence[int] = (0, 1),
    on_error: str = 'skip',
    replace: bool = False,
    show_progress: bool = True,
) -> dict[str, str] | None:
    """Write the regions of images to a memory bank, a file that appears when it is complete.

    Until then, results are in the folder ``OUT.unfinished``; started again with the same
    arguments, a run that was stopped resumes.

    Args:
        model: What makes the rows; see :func:`load_region_encoder`.
        inputs: See :func:`mmtagclip.apis.list_images`; files only.
        regions: Folder or COCO file of the regions; see :class:`mmtagclip.datasets.LoadRegions`.
        out: The file, ``.safetensors``.
        dtype: ``'float16'`` or ``'float32'``, of keys and values.
        unsegmented: Id in the files of pixels that belong to no region.
        shard: ``(index, count)``: process shard ``index`` of ``count``, independently of the other
            shards; the one that ends last writes the file.
        on_error: ``'raise'``, or ``'skip'`` images that can't be read or have no valid regions.
        replace: Whether to replace a file that is there; not with shards.
        show_progress: Whether to show a progress bar.

    Returns:
        For each image that was skipped, by its path, the reason; None if other shards are not done.

    Raises:
        FileExistsError: The file is there.
        FileNotFoundError: There is no image, or no regions at the path.
        TypeError: An image that is not a file.
        ValueError: Options out of range, another run was begun there, no image has a region, or
            ``on_error='raise'`` and one can't be read.
    """
    out = Path(out)
    check_bank_options(out, dtype, shard, on_error, replace)
    if out.exists() and not replace and not only_clean_up_is_left(out):
        raise FileExistsError(f'{out} exists already; replace it, or name another file')
    images = list_images(inputs)
    for image in images:
        if not isinstance(image.source, Path):
            raise TypeError(f'{image.name} is not a file, so its regions could not be found')
    loader = LoadRegions(str(regions), unsegmented)
    description = {'model': identity(model), 'dtype': dtype, 'unsegmented': unsegmented}
    run = Job(
        unfinished(out),
        Manifest('memory bank', (), flatten(description)),
        [_source(image, loader) for image in images],
        fixed_images=tuple(shard) != (0, 1),
        replace=replace,
    )
    share = range(len(images))[shard[0] :: shard[1]]
    left = [index for index in share if index not in run.done]
    try:
        for index in tqdm(left, unit='image', disable=None if show_progress else True):
            run.add(index, *_row(model, images[index], loader, dtype, on_error))
    finally:
        run.commit()
    if not run.finish():
        if tuple(shard) == (0, 1):
            raise FileNotFoundError(f'results in {run.root} were removed meanwhile; start again')
        return None
    return _publish(run, out, model, dtype)


def check_bank_options(
    out: Path, dtype: str, shard: Sequence[int], on_error: str, replace: bool
) -> None:
    """Refuse options of :func:`build_bank` that are out of range.

    Raises:
        ValueError: One is.
    """
    if out.suffix != ENDING:
        raise ValueError(f'a memory bank is written to a {ENDING} file, not to {out}')
    if dtype not in DTYPES:
        raise ValueError(f'dtype must be one of {", ".join(DTYPES)}, not {dtype!r}')
    if len(shard) != 2 or not 0 <= shard[0] < shard[1]:
        raise ValueError(
            f'shard must be (index, count) with 0 <= index < count, not {tuple(shard)}'
        )
    if replace and tuple(shard) != (0, 1):
        raise ValueError('shards can not replace a file: remove it first')
    if on_error not in ('raise', 'skip'):
        raise ValueError(f"on_error must be 'raise' or 'skip', not {on_error!r}")


def _source(image: ImageInput, loader: LoadRegions) -> Source:
    """The image with the times of both its files."""
    try:
        regions = file_stamp(loader.find(image.name).path)
    except ValueError:
        regions = None
    return Source(image.name, [file_stamp(str(image.source)), regions])


def _row(
    model: RegionEncoder, image: ImageInput, loader: LoadRegions, dtype: str, on_error: str
) -> tuple[ImageRecord, dict[str, bytes]]:
    """The record of an image, and the rows of its regions: all keys, then all values."""
    try:
        pixels = image.read()
        asked = {'img_path': image.name, 'ori_shape': pixels.shape[:2]}
        regions = loader.transform(asked)['regions']
        ids, keys, values = model(pixels, regions)
    except (ValueError, OSError) as error:
        if on_error == 'raise':
            raise
        text = str(error)
        text = text if image.name in text else f'{image.name}: {text}'
        return ImageRecord(image.name, error=text), {}
    content = b''.join(one.cpu().to(DTYPES[dtype]).numpy().tobytes() for one in (keys, values))
    sizes = [keys.shape[1], values.shape[1]]
    record = ImageRecord(image.name, more={'ids': ids.tolist(), 'sizes': sizes})
    return record, {'rows.bin': content}


def _publish(run: Job, out: Path, model: RegionEncoder, dtype: str) -> dict[str, str]:
    """Write the bank of a complete job, and remove the job's folder."""
    try:
        _, records = read_results(run.root)
    except FileNotFoundError:
        if out.exists():  # another shard was quicker
            return dict(MemoryBank(out).facts['errors'])
        raise
    errors = {one.image: one.error for one in records if one.error is not None}
    records = [one for one in records if one.error is None]
    count = sum(len(one.more['ids']) for one in records)
    if not count:
        reason = next(iter(errors.values()), 'their files hold no ids but that of no region')
        raise ValueError(f'not one image has a region: {reason}')
    images = [one.image.encode(errors='backslashreplace').decode() for one in records]
    image = np.repeat(np.arange(len(records)), [len(one.more['ids']) for one in records])
    region = [one for record in records for one in record.more['ids']]
    key_size, value_size = records[0].more['sizes']
    facts = {
        'version': __version__,
        'rows': count,
        'key_dimension': key_size,
        'dimension': value_size,
        'dtype': dtype,
        'encoder': model.encoder.identity,
        'source': source_identity(model.source),
        'settings': {'side': model.side, 'windows': identity(model.windows)},
        'regions': digest([images, image.tolist(), region]),
        'content': digest([hash_of((run.root / one.more['rows']).read_bytes()) for one in records]),
        'errors': errors,
    }

    def part(keys: bool) -> Iterator[bytes]:
        for record in records:
            content = (run.root / record.more['rows']).read_bytes()
            cut = len(content) * key_size // (key_size + value_size)
            yield content[:cut] if keys else content[cut:]

    make_folder(run.work)  # for what is not finished, so that nothing else is left behind
    content = bank_content(facts, images, image.tolist(), region, part(True), part(False))
    write_whole(out, content, scratch=run.work)
    remove_results(run.root)
    return errors
