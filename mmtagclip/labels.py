"""Labels of masks: names, colours, the background, and the value that is ignored."""

from collections.abc import Sequence
from typing import Any

import numpy as np

# Value of a mask's pixels that have no label or are not counted.
IGNORED = 255


def labels_metainfo(names: Sequence[str], with_background: bool) -> dict[str, Any]:
    """Build the meta information of a data set or segmentor that drawing labels needs.

    Args:
        names: Names of the labels without the background.
        with_background: Whether label 0 is the background.

    Returns:
        ``classes``, the name of each label, and ``palette``, the colour of each label:
        VOC's colours, RGB in [0, 255]. Only the background is black.

    Raises:
        ValueError: One of the names is ``background`` although label 0 is the background.
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
