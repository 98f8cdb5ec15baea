"""Labels of masks: names, colours, which is the background, and the value that is none."""

from collections.abc import Sequence
from typing import Any

import numpy as np

# The value of a mask's pixel that has no label, or one that is not to be counted.
IGNORED = 255


def labels_metainfo(names: Sequence[str], with_background: bool) -> dict[str, Any]:
    """What a data set or segmentor says of its labels, as drawing them needs it.

    Args:
        names: Of the labels but for the background.
        with_background: Whether label 0 is the background.

    Returns:
        ``classes``, the name of each label, and ``palette``, its colour: RGB in
        [0, 255], VOC's colours, in which only the background is black.

    Raises:
        ValueError: One of the names is ``background``, which label 0 is already.
    """
    if with_background and 'background' in names:
        raise ValueError("'background' is label 0 already: leave it out of the classes")
    labels = np.arange(1, len(names) + 1)
    colours = np.zeros((len(names), 3), dtype=np.int64)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= (labels >> (3 * bit + channel) & 1) << (7 - bit)
    first = 1 if with_background else 0
    return {
        'classes': (*['background'] * first, *names),
        'palette': [*[[0, 0, 0]] * first, *colours.tolist()],
    }
