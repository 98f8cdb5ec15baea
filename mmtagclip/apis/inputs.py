"""The images that users pass, as a list that can be read one by one."""

import os
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from glob import glob, has_magic
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..files import user_path
from ..images import SUFFIXES, read_image, split_files, unread_sentence, upright


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


def list_images(inputs: Any, unread: list[Path] | None = None) -> list[ImageInput]:
    """List images.

    Files of a folder or pattern that are not images of a format that can be read here are left
    out. A warning counts them by their endings, and says what to install.

    Args:
        inputs: The path of an image, of a folder (every image below it, in the
            order of their names) or a pattern (``'photos/*.jpg'``; ``**`` is any
            folder), a PIL image, an array ``(H, W)``, ``(H, W, 3)`` or
            ``(H, W, 4)`` uint8, RGB, or any iterable of these.
        unread: A list to which the files that are left out are added; there is no warning
            then.

    Returns:
        The images, each with another stem.

    Raises:
        FileNotFoundError: A folder or pattern without images. A missing file is an
            error only when it is read.
        TypeError: Anything else.
        ValueError: A web address; download the image first.
    """
    images: list[ImageInput] = []
    left_out: list[Path] = []
    _add(images, inputs, left_out)
    if unread is not None:
        unread.extend(left_out)
    elif left_out:
        warnings.warn(unread_sentence(left_out), stacklevel=2)
    stems = output_stems([image.name for image in images])
    return [
        image if image.stem else replace(image, stem=stem)
        for image, stem in zip(images, stems, strict=True)
    ]


def output_stems(names: Sequence[str]) -> list[str]:
    """Names of output files: the images' own, relative to their common folder, all different.

    Args:
        names: Paths of the images, or names of images in memory.

    Returns:
        One per image, with ``/``, and without ending unless two images differ only
        in it.
    """
    paths = [Path(os.path.abspath(name)) for name in names]
    root = Path(os.path.commonpath([path.parent for path in paths])) if paths else Path()
    stems = [path.relative_to(root).with_suffix('').as_posix() for path in paths]
    count = Counter(stems)
    full = [
        path.relative_to(root).as_posix() if count[stem] > 1 else stem
        for path, stem in zip(paths, stems, strict=True)
    ]
    seen: Counter[str] = Counter()
    unique = []
    for stem in full:
        seen[stem] += 1
        unique.append(stem if seen[stem] == 1 else f'{stem}-{seen[stem]}')
    return unique


def _add(images: list[ImageInput], item: Any, left_out: list[Path]) -> None:
    if isinstance(item, np.ndarray):
        if item.dtype != np.uint8:
            raise TypeError(f'an image array must be uint8 in [0, 255], RGB, not {item.dtype}')
        images.append(ImageInput(f'image-{len(images)}', item))
    elif isinstance(item, Image.Image):
        images.append(ImageInput(f'image-{len(images)}', item))
    elif isinstance(item, ImageInput):
        images.append(item)
    elif isinstance(item, str | Path):
        images.extend(ImageInput(str(path), path) for path in _paths(str(item), left_out))
    elif isinstance(item, Iterable):
        for one in item:
            _add(images, one, left_out)
    else:
        raise TypeError(
            'an image is a path, a folder, a pattern, a PIL image, an array or a list '
            f'of these, not {type(item).__name__}'
        )


def _paths(text: str, left_out: list[Path]) -> list[Path]:
    if '://' in text:
        raise ValueError(
            f'{text!r} is a web address; nothing is downloaded: save the image and give its path'
        )
    path = user_path(text)
    if path.is_dir():
        found, others = split_files(path.rglob('*'))
    elif has_magic(text) and not path.exists():
        found, others = split_files(map(Path, glob(str(path), recursive=True)))
    else:
        return [path]
    if not found:
        why = unread_sentence(others) if others else f'endings: {", ".join(SUFFIXES)}'
        raise FileNotFoundError(f'no image in {text!r} ({why})')
    left_out.extend(others)
    return found
