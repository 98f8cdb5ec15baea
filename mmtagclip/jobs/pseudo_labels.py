"""Finished results of a job as labels to train on; the format is that of :mod:`.runner`."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from ..records import ImageRecord
from .runner import Manifest, read_results


def read_pseudo_labels(
    root: str | Path, classes: Sequence[str] | None = None
) -> tuple[Manifest, list[ImageRecord]]:
    """Read a finished folder of pseudo labels.

    Args:
        root: The folder.
        classes: Class names that they must have, in this order; any if None.

    Returns:
        The manifest, and a record per image in the order of the data set.

    Raises:
        FileNotFoundError: The folder holds no pseudo labels.
        ValueError: They are not finished, are damaged, or have other class names.
    """
    manifest = Manifest.load(root)
    if classes is not None and tuple(classes) != manifest.classes:
        raise ValueError(f'{root} has labels of other classes: {_difference(manifest, classes)}')
    return read_results(root)


def _difference(manifest: Manifest, classes: Iterable[str]) -> str:
    names = tuple(classes)
    for index, (one, other) in enumerate(zip(manifest.classes, names, strict=False)):
        if one != other:
            return f'class {index} is {one!r} there and {other!r} here'
    return f'{len(manifest.classes)} there and {len(names)} here'
