"""The colours of classes, in masks and drawings."""

from collections.abc import Sequence
from functools import cache

import numpy as np

# Okabe and Ito's palette for all kinds of colour vision (2008), without black.
BASE = (
    (0, 114, 178),
    (230, 159, 0),
    (0, 158, 115),
    (213, 94, 0),
    (86, 180, 233),
    (204, 121, 167),
    (240, 228, 66),
)
# Protanopia, deuteranopia and tritanopia, on linear RGB (Machado, Oliveira and Fernandes 2009).
BLINDNESS = (
    (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.01182, 0.04294, 0.968881),
    ),
    (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.3039),
    ),
)
# Labels that a mask file can hold; the colours of further labels repeat.
COUNT = 255
# Labels of similar numbers are often of one kind and meet in one image: the last RECENT colours
# count as this many times nearer than they are.
RECENT, NEARER = 12, 3
# Lightness and least chroma of generated colours: a region is neither a hole, a glare nor grey.
MIDDLE, SPREAD, CHROMA = 62, 27, 25


def class_colours(count: int) -> list[tuple[int, int, int]]:
    """Colours for this many classes, RGB in [0, 255].

    The first seven are Okabe and Ito's. Each further one is the colour that is the
    furthest from those before it, from black and from white, for whichever kind of
    colour vision tells it from them least (see :func:`appearance`), so a class keeps
    its colour if others follow. No colour is black. Beyond 255, they repeat.
    """
    return [_colours()[number % COUNT] for number in range(count)]


def appearance(colours: Sequence[Sequence[int]] | np.ndarray) -> np.ndarray:
    """How colours look with each kind of colour vision.

    Args:
        colours: ``(n, 3)`` RGB in [0, 255].

    Returns:
        ``(4, n, 3)`` CIELAB, where a distance of about 2 is just noticeable: in full colour,
        and without the cones for red, for green and for blue.
    """
    import cv2

    rgb = np.asarray(colours, dtype=np.float32).reshape(-1, 3) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.stack([linear, *(linear @ np.array(one).T for one in BLINDNESS)]).clip(0, 1)
    shown = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
    return cv2.cvtColor(shown.astype(np.float32), cv2.COLOR_RGB2Lab)


def difference(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Distance of appearances, for the kind of colour vision that sees the least.

    Args:
        one: ``(4, 1, 3)``, of one colour.
        others: ``(4, n, 3)``.

    Returns:
        ``(n,)`` in CIELAB.
    """
    apart = one - others
    return np.sqrt(np.einsum('vnc,vnc->vn', apart, apart).min(axis=0))


@cache
def _colours() -> tuple[tuple[int, int, int], ...]:
    steps = np.arange(0, 256, 17)
    candidates = np.stack(np.meshgrid(steps, steps, steps, indexing='ij'), -1).reshape(-1, 3)
    looks = appearance(candidates)
    vivid = (np.abs(looks[0, :, 0] - MIDDLE) <= SPREAD) & (np.hypot(*looks[0, :, 1:].T) >= CHROMA)
    candidates, looks = candidates[vivid], looks[:, vivid]
    chosen = [(0, 0, 0), (255, 255, 255), *BASE]
    found = appearance(chosen)
    distances = [difference(found[:, i : i + 1], looks) for i in range(len(chosen))]
    nearest = np.minimum.reduce(distances)
    while len(chosen) < COUNT + 2:
        recent = np.minimum.reduce(distances[2:][-RECENT:])
        best = int(np.minimum(nearest, recent / NEARER).argmax())
        red, green, blue = candidates[best].tolist()
        chosen.append((red, green, blue))
        distances.append(difference(looks[:, best : best + 1], looks))
        nearest = np.minimum(nearest, distances[-1])
    return tuple(chosen[2:])
