"""The images that users pass, as a list that can be read one by one."""

import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from glob import glob, has_magic
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from ..files import user_path
from ..images import (
    decode,
    files_below,
    no_image,
    output_stems,
    read_image,
    split_files,
    unread_sentence,
)

Loaded = TypeVar('Loaded')


@dataclass(frozen=True)
class ImageInput:
    """One image that is not read yet.

    Attributes:
        name: Its path, or ``image-0`` and so on for an image in memory.
        source: Its path, the content of its file, a PIL image, or an array ``(H, W)``,
            ``(H, W, 3)`` or ``(H, W, 4)`` uint8, RGB.
        stem: Name of its output files: relative, with ``/``, without ending.
    """

    name: str
    source: Path | bytes | Image.Image | np.ndarray
    stem: str = ''

    def read(self, max_side: int = 16384) -> np.ndarray:
        """The image, ``(H, W, 3)`` uint8 RGB, upright.

        Args:
            max_side: Images with a longer side, in pixels, are refused.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is damaged, no image or too large, or the array is
                too large, empty or of another shape.
        """
        image = self.source
        if isinstance(image, Path | bytes):
            return read_image(image, max_side, name=self.name)
        if isinstance(image, np.ndarray):
            if (
                image.size == 0
                or image.ndim not in (2, 3)
                or (image.ndim == 3 and image.shape[2] not in (3, 4))
            ):
                raise ValueError(
                    f'{self.name}: an image is an array (H, W), (H, W, 3) or '
                    f'(H, W, 4), not {image.shape}'
                )
            image = Image.fromarray(image)
        return decode(image, max_side, name=self.name)


def list_images(
    inputs: Any, channel_order: str = 'rgb', unread: list[Path] | None = None
) -> list[ImageInput]:
    """List images.

    Files of a folder or pattern that are not images of a format that can be read here are left
    out, and so are links to folders. A warning counts them by their endings, and says what to do.

    Args:
        inputs: The path of an image, of a folder (every image below it, in the
            order of their names) or a pattern (``'photos/*.jpg'``; ``**`` is any
            folder), the content of an image file as bytes, a file opened in binary
            mode, a PIL image, an array ``(H, W)``, ``(H, W, 3)`` or ``(H, W, 4)``
            uint8, a tensor ``(3, H, W)`` or ``(B, 3, H, W)``, uint8 in [0, 255] or
            floating point in [0, 1], or any iterable of these.
        channel_order: Of arrays and tensors: ``'rgb'``, or ``'bgr'`` as OpenCV reads
            images. Files and PIL images have their own.
        unread: A list to which the files that are left out are added; there is no warning
            then.

    Returns:
        The images, each with another stem.

    Raises:
        FileNotFoundError: A folder or pattern without images. A missing file is an
            error only when it is read.
        TypeError: Anything else.
        ValueError: A web address (download the image first), a tensor of another shape
            or range, or another ``channel_order``.
    """
    if channel_order not in ('rgb', 'bgr'):
        raise ValueError(f"channel_order must be 'rgb' or 'bgr', not {channel_order!r}")
    images: list[ImageInput] = []
    left_out: list[Path] = []
    _add(images, inputs, channel_order == 'bgr', left_out)
    if unread is not None:
        unread.extend(left_out)
    elif left_out:
        warnings.warn(unread_sentence(left_out), stacklevel=2)
    stems = output_stems([image.name for image in images])
    return [
        image if image.stem else replace(image, stem=stem)
        for image, stem in zip(images, stems, strict=True)
    ]


def read_ahead(
    images: Sequence[ImageInput], batch_size: int, load: Callable[[ImageInput], Loaded]
) -> Iterator[list[Loaded]]:
    """Load images batch by batch, each batch in a thread while the caller works on the one before.

    Images in memory are loaded when they are asked for, because the caller may change them.

    Args:
        images: The images.
        batch_size: Images per batch.
        load: Loads one.

    Yields:
        The batches, in order. An error is raised where its batch would be.
    """
    batches = [images[start : start + batch_size] for start in range(0, len(images), batch_size)]

    def loaded(batch: Sequence[ImageInput]) -> list[Loaded]:
        return [load(image) for image in batch]

    if len(batches) < 2 or not all(isinstance(image.source, Path) for image in images):
        yield from map(loaded, batches)
        return
    with ThreadPoolExecutor(1, 'images') as thread:
        coming = thread.submit(loaded, batches[0])
        for batch in batches[1:]:
            here, coming = coming.result(), thread.submit(loaded, batch)
            yield here
        yield coming.result()


def _add(images: list[ImageInput], item: Any, bgr: bool, left_out: list[Path]) -> None:
    name = f'image-{len(images)}'
    if _is_tensor(item):
        if item.ndim == 4:
            for one in item:
                _add(images, one, bgr, left_out)
            return
        item = _array_of(item, name)
    if isinstance(item, np.ndarray):
        if item.dtype != np.uint8:
            raise TypeError(f'an image array must be uint8 in [0, 255], RGB, not {item.dtype}')
        if bgr and item.ndim == 3:
            item = item[..., [2, 1, 0, 3][: item.shape[2]]]
        images.append(ImageInput(name, item))
    elif isinstance(item, Image.Image):
        images.append(ImageInput(name, item))
    elif isinstance(item, ImageInput):
        images.append(item)
    elif isinstance(item, bytes | bytearray | memoryview):
        images.append(ImageInput(name, bytes(item)))
    elif isinstance(item, str | os.PathLike):
        images.extend(ImageInput(str(path), path) for path in _paths(os.fsdecode(item), left_out))
    elif hasattr(item, 'read'):
        images.append(_opened_file(item, name))
    elif isinstance(item, Iterable):
        for one in item:
            _add(images, one, bgr, left_out)
    else:
        raise TypeError(
            'an image is a path, a folder, a pattern, bytes, an open file, a PIL image, an array, '
            f'a tensor or a list of these, not {type(item).__name__}'
        )


def _is_tensor(item: Any) -> bool:
    """Whether it is a tensor of torch, which is not imported for it."""
    torch = sys.modules.get('torch')
    return torch is not None and isinstance(item, torch.Tensor)


def _array_of(tensor: Any, name: str) -> np.ndarray:
    """A tensor ``(3, H, W)`` as an array ``(H, W, 3)`` uint8."""
    if tensor.ndim != 3 or len(tensor) != 3 or not tensor.numel():
        raise ValueError(
            f'{name}: an image is a tensor (3, H, W) or (B, 3, H, W), not {tuple(tensor.shape)}'
        )
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point():
        low, high = tensor.min().item(), tensor.max().item()
        if not 0 <= low <= high <= 1:
            raise ValueError(
                f'{name}: a tensor of floating-point numbers must be in [0, 1], before any '
                f'normalisation, but its values are from {low:g} to {high:g}'
            )
        tensor = (tensor.float() * 255).round().byte()
    array = tensor.permute(1, 2, 0).numpy()
    if array.dtype != np.uint8:
        raise TypeError(
            f'an image tensor must be uint8 in [0, 255] or floating point in [0, 1], not '
            f'{tensor.dtype}'
        )
    return array


def _opened_file(file: Any, name: str) -> ImageInput:
    """The whole content of an open file, which is then no longer needed."""
    if file.seekable():
        file.seek(0)
    content = file.read()
    if not isinstance(content, bytes):
        raise TypeError(f"{name}: a file must be opened in binary mode: open(path, 'rb')")
    path = getattr(file, 'name', None)
    return ImageInput(path if isinstance(path, str) else name, content)


def _paths(text: str, left_out: list[Path]) -> list[Path]:
    if '://' in text:
        raise ValueError(
            f'{text!r} is a web address; nothing is downloaded: save the image and give its path'
        )
    path = user_path(text)
    if path.is_dir():
        found, others = split_files(files_below(path))
    elif has_magic(text) and not path.exists():
        matches = map(Path, glob(str(path), recursive=True))
        found, others = split_files(match for match in matches if not match.is_dir())
    else:
        return [path]
    if not found:
        raise FileNotFoundError(no_image(repr(text), others))
    left_out.extend(others)
    return found
