"""Labels of masks: names, colours, the background, and the value that is ignored."""

import io
from collections.abc import Iterator, Mapping, Sequence
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


def decode_segmentation(found: Any, size: Sequence[int]) -> np.ndarray:
    """The pixels of an object in a COCO file.

    All is checked before pycocotools sees it: damaged run lengths and corners far away make it
    read memory that is not its own, or end the process.

    Args:
        found: Polygons or run lengths, as the file has them.
        size: ``(H, W)`` of the image.

    Returns:
        ``(H, W)`` bool.

    Raises:
        ValueError: They are damaged, or run lengths of another size.
    """
    if isinstance(found, Mapping):
        return decode_runs(found, size)
    if not isinstance(found, list) or not all(_is_polygon(one, size) for one in found):
        raise ValueError(
            'its segmentation must be run lengths, or lists of at least 3 corners in or near the '
            'image'
        )
    if not found:
        return np.zeros(size, dtype=bool)
    from pycocotools import mask as coco_mask

    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(found, *size))).astype(bool)


def _is_polygon(corners: Any, size: Sequence[int]) -> bool:
    """Whether these are at least 3 corners, none further from the image than it is large."""
    if not isinstance(corners, list) or len(corners) < 6 or len(corners) % 2:
        return False
    height, width = size
    return all(
        type(side) in (int, float) and -limit <= side <= 2 * limit
        for side, limit in zip(corners, (width, height) * (len(corners) // 2), strict=True)
    )


def decode_runs(runs: Any, size: Sequence[int]) -> np.ndarray:
    """The pixels of COCO's run lengths, compressed (a string) or not (a list).

    pycocotools reads and writes memory that is not its own where these are damaged.

    Args:
        runs: ``size`` and ``counts``, as a file has them.
        size: ``(H, W)`` that they must have.

    Returns:
        ``(H, W)`` bool.

    Raises:
        ValueError: They are of another size, or damaged.
    """
    if not isinstance(runs, Mapping) or runs.get('size') != list(size):
        raise ValueError(f'run lengths must be an object with "size": {list(size)}')
    counts = runs.get('counts')
    counts = _unpacked(counts) if isinstance(counts, str) else counts
    if (
        not isinstance(counts, list)
        or not all(type(count) is int and count >= 0 for count in counts)
        or sum(counts) != size[0] * size[1]
    ):
        raise ValueError('its run lengths are damaged: they do not fill the image')
    inside = np.arange(len(counts)) % 2 == 1  # the first run is of what is outside
    return np.repeat(inside, counts).reshape(size[1], size[0]).T


def _unpacked(text: str) -> list[int] | None:
    """Run lengths of a string; None if it is none.

    A character has five bits and one that says whether more follow; from the fourth on, a number is
    the difference from the one before the last.
    """
    counts: list[int] = []
    value = shift = 0
    for bits in (ord(character) - 48 for character in text):
        if not 0 <= bits < 64 or shift > 60:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= 1 << shift if bits & 16 else 0
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    return None if shift else counts


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
