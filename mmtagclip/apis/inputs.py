"""The images that users pass, as a list that can be read one by one."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from glob import glob, has_magic
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..files import user_path
from ..images import SUFFIXES, output_stems, read_image, upright


@dataclass(frozen=True)
class ImageInput:
    """One image that is not read yet.

    Attributes:
        name: Its path, or ``image-0`` and so on for an image in memory.
        source: Its path, a PIL image, or an array ``(H, W)``, ``(H, W, 3)`` or
            ``(H, W, 4)`` uint8, RGB.
        stem: Name of its output files: relative, with ``/``, without ending.
    """

    name: str
    source: Path | Image.Image | np.ndarray
    stem: str = ''

    def read(self, max_side: int = 16384) -> np.ndarray:
        """The image, ``(H, W, 3)`` uint8 RGB, upright.

        Args:
            max_side: Files with a longer side, in pixels, are refused.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is damaged, no image or too large, or the array is
                empty or of another shape.
        """
        if isinstance(self.source, Path):
            return read_image(self.source, max_side)
        image = self.source
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
        return upright(image, self.name)


def list_images(inputs: Any) -> list[ImageInput]:
    """List images.

    Args:
        inputs: The path of an image, of a folder (every image below it, in the
            order of their names) or a pattern (``'photos/*.jpg'``; ``**`` is any
            folder), a PIL image, an array ``(H, W)``, ``(H, W, 3)`` or
            ``(H, W, 4)`` uint8, RGB, or any iterable of these.

    Returns:
        The images, each with another stem.

    Raises:
        FileNotFoundError: A folder or pattern without images. A missing file is an
            error only when it is read.
        TypeError: Anything else.
        ValueError: A web address; download the image first.
    """
    images: list[ImageInput] = []
    _add(images, inputs)
    stems = output_stems([image.name for image in images])
    return [
        image if image.stem else replace(image, stem=stem)
        for image, stem in zip(images, stems, strict=True)
    ]


def _add(images: list[ImageInput], item: Any) -> None:
    if isinstance(item, np.ndarray):
        if item.dtype != np.uint8:
            raise TypeError(f'an image array must be uint8 in [0, 255], RGB, not {item.dtype}')
        images.append(ImageInput(f'image-{len(images)}', item))
    elif isinstance(item, Image.Image):
        images.append(ImageInput(f'image-{len(images)}', item))
    elif isinstance(item, ImageInput):
        images.append(item)
    elif isinstance(item, str | Path):
        images.extend(ImageInput(str(path), path) for path in _paths(str(item)))
    elif isinstance(item, Iterable):
        for one in item:
            _add(images, one)
    else:
        raise TypeError(
            'an image is a path, a folder, a pattern, a PIL image, an array or a list '
            f'of these, not {type(item).__name__}'
        )


def _paths(text: str) -> list[Path]:
    if '://' in text:
        raise ValueError(
            f'{text!r} is a web address; nothing is downloaded: save the image and give its path'
        )
    path = user_path(text)
    if path.is_dir():
        found = sorted(one for one in path.rglob('*') if _is_image(one))
    elif has_magic(text) and not path.exists():
        found = sorted(one for one in map(Path, glob(str(path), recursive=True)) if _is_image(one))
    else:
        return [path]
    if not found:
        raise FileNotFoundError(f'no image in {text!r} (endings: {", ".join(SUFFIXES)})')
    return found


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()
