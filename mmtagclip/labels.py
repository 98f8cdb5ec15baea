"""Labels of masks: names, colours, the background, and the value that is ignored."""

import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from .palette import class_colours

# Value of a mask's pixels that have no label or are not counted.
IGNORED = 255
IGNORED_COLOUR = (224, 224, 192)
# Pixels of a large array that are computed together, where intermediate arrays take more memory
# than the result.
BLOCK = 2**20


def labels_metainfo(names: Sequence[str], with_background: bool) -> dict[str, Any]:
    """Build the meta information of a data set or segmentor that drawing labels needs.

    Args:
        names: Names of the labels without the background.
        with_background: Whether label 0 is the background.

    Returns:
        ``classes``, the name of each label, and ``palette``, the colour of each label,
        RGB in [0, 255]: those of :func:`mmtagclip.palette.class_colours`. Only the
        background is black.

    Raises:
        ValueError: One of the names is ``background`` although label 0 is the background.
    """
    if with_background and 'background' in names:
        raise ValueError("'background' is label 0 already: leave it out of the classes")
    first = 1 if with_background else 0
    return {
        'classes': (*['background'] * first, *names),
        'palette': [*[[0, 0, 0]] * first, *map(list, class_colours(len(names)))],
    }


def row_blocks(size: tuple[int, ...]) -> Iterator[slice]:
    """Rows of an array ``(H, W)``, in blocks of about a million pixels.

    Args:
        size: ``(H, W)``.
    """
    height, width = size
    step = max(1, BLOCK // max(1, width))
    for top in range(0, height, step):
        yield slice(top, top + step)


def label_counts(mask: np.ndarray) -> dict[int, int]:
    """How many pixels have each label that occurs, :data:`IGNORED` too; labels ascending.

    Args:
        mask: ``(H, W)`` integers, at least 0.
    """
    counts: dict[int, int] = {}
    for rows in row_blocks(mask.shape):
        for label, count in enumerate(np.bincount(mask[rows].ravel().astype(np.int64)).tolist()):
            if count:
                counts[label] = counts.get(label, 0) + count
    return dict(sorted(counts.items()))


def index_mask(labels: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Labels as a mask file holds them.

    Args:
        labels: ``(H, W)`` integers.
        classes: Name of each label.

    Returns:
        ``(H, W)`` uint8.

    Raises:
        ValueError: More labels than a mask of 8 bits holds.
    """
    if len(classes) > IGNORED:
        raise ValueError(
            f'a mask holds at most {IGNORED} labels, but there are {len(classes)} classes'
        )
    return labels.astype(np.uint8)


def mask_png(mask: np.ndarray, palette: Sequence[Sequence[int]] | None = None) -> bytes:
    """A mask as a PNG file of labels.

    Args:
        mask: ``(H, W)`` uint8.
        palette: RGB colour of each label, in [0, 255], for programs that show the file or read
            its colours; :data:`IGNORED` gets VOC's. The pixels are labels all the same. Grey if
            None.
    """
    image = Image.fromarray(mask)
    if palette is not None:
        colours = np.zeros((256, 3), dtype=np.uint8)
        colours[: len(palette)] = palette
        colours[IGNORED] = IGNORED_COLOUR
        image.putpalette(colours.tobytes())
    buffer = io.BytesIO()
    image.save(buffer, format='PNG')
    return buffer.getvalue()
