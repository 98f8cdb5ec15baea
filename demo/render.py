"""Render the demo world: scenes of pictograms over procedural backgrounds.

A scene is an image with its tags, boxes and class mask. It depends only on
``(split, seed, index)``, so a set can be rendered again on any machine::

    python demo/render.py --sprites ~/.cache/mmtagclip-demo --split test --out demo/data

The pictograms come from three npm packages, which ``demo/fetch_sprites.sh`` downloads.
Training scenes are small and contain one to three objects. Test scenes are larger, have mixed
sizes and contain two to six objects. A quarter of the test backgrounds are patterns that training
never shows.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np

# Class name and the Unicode code point of its pictogram.
CLASSES: dict[str, str] = {
    'dog': '1f415', 'cat': '1f408', 'horse': '1f40e', 'cow': '1f404', 'sheep': '1f411',
    'elephant': '1f418', 'penguin': '1f427', 'owl': '1f989', 'fish': '1f41f', 'turtle': '1f422',
    'crab': '1f980', 'butterfly': '1f98b', 'octopus': '1f419', 'snail': '1f40c', 'frog': '1f438',
    'car': '1f697', 'bus': '1f68c', 'truck': '1f69a', 'train': '1f682', 'bicycle': '1f6b2',
    'airplane': '2708-fe0f', 'boat': '26f5', 'rocket': '1f680', 'tractor': '1f69c',
    'apple': '1f34e', 'banana': '1f34c', 'orange': '1f34a', 'strawberry': '1f353',
    'watermelon': '1f349', 'pineapple': '1f34d', 'carrot': '1f955', 'mushroom': '1f344',
    'pizza': '1f355', 'hamburger': '1f354', 'doughnut': '1f369', 'umbrella': '2602-fe0f',
    'guitar': '1f3b8', 'chair': '1fa91', 'key': '1f511', 'book': '1f4d5', 'camera': '1f4f7',
    'clock': '23f0', 'scissors': '2702-fe0f', 'balloon': '1f388', 'hat': '1f3a9',
    'shoe': '1f45f', 'cup': '2615', 'backpack': '1f392', 'football': '26bd', 'bell': '1f514',
}  # fmt: skip
NAMES = tuple(CLASSES)
# Backgrounds with a name; the patterns have none.
BACKGROUNDS = (
    'grass', 'sky', 'sand', 'water', 'wall', 'wood', 'snow', 'night', 'stone', 'cloth',
)  # fmt: skip
PATTERNS = ('gradient', 'stripes', 'dots', 'blotches')
HELD_OUT_PATTERNS = ('checker', 'rings')

STYLES = {
    'google': 'emoji-datasource-google/img/google/64/{}.png',
    'twitter': 'emoji-datasource-twitter/img/twitter/64/{}.png',
    'fluent': '@lobehub/fluent-emoji-3d/assets/{}.webp',
}
# A style that training never sees.
HELD_OUT_STYLES = {'openmoji': 'openmoji/color/128/{}.png'}
SPLITS = {'train': 0, 'dev': 1, 'test': 2, 'measure': 3}

# An object is labelled if at least this share of its pixels, and this many, are visible.
MIN_VISIBLE = 0.3
MIN_PIXELS = 64
# A background is named if it covers at least this share of the image.
MIN_BACKGROUND = 0.15

Sprites = list[list[list[np.ndarray]]]


@dataclass
class Scene:
    """A rendered image and its ground truth.

    Attributes:
        image: RGB image ``(H, W, 3)``, uint8.
        mask: Class index of each pixel ``(H, W)``, uint8; 0 is background and ``i + 1``
            the class ``NAMES[i]``.
        objects: Class index (0-based) and visible box ``(x0, y0, x1, y1)`` in pixels, far
            edges exclusive, of each labelled object.
        backgrounds: Indices into ``BACKGROUNDS`` of the named backgrounds in the image.
    """

    image: np.ndarray
    mask: np.ndarray
    objects: list[tuple[int, tuple[int, int, int, int]]]
    backgrounds: list[int]

    @property
    def tags(self) -> list[int]:
        """Class indices of the labelled objects, sorted, without duplicates."""
        return sorted({c for c, _ in self.objects})


def load_sprites(root: Path, paths: dict[str, str] = STYLES) -> Sprites:
    """Read all pictograms.

    Args:
        root: Folder that contains ``node_modules`` with the packages.
        paths: Path of each style, with ``{}`` for the code point.

    Returns:
        For each class and style, the sprite at several sizes, large to small. Each is
        RGBA float32 ``(h, w, 4)`` in [0, 255] with premultiplied alpha.

    Raises:
        FileNotFoundError: A pictogram is missing.
    """
    sprites: Sprites = []
    for code in CLASSES.values():
        styles = []
        for pattern in paths.values():
            path = root / 'node_modules' / pattern.format(code)
            if not path.is_file():
                path = path.with_name(path.name.replace('-fe0f', ''))
            rgba = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) if path.is_file() else None
            if rgba is None or rgba.ndim != 3 or rgba.shape[2] != 4:
                raise FileNotFoundError(
                    f'no RGBA pictogram at {path}; run demo/fetch_sprites.sh {root} first, '
                    f'for the style {next(iter(HELD_OUT_STYLES))} with the word held-out'
                )
            ys, xs = np.nonzero(rgba[..., 3] > 8)
            rgba = rgba[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1].astype(np.float32)
            rgba = rgba[..., [2, 1, 0, 3]]
            rgba[..., :3] *= rgba[..., 3:] / 255
            sizes = []
            for side in (128, 64, 32):
                scale = side / max(rgba.shape[:2])
                if scale <= 1 or not sizes:
                    wh = [max(1, round(n * min(scale, 1))) for n in rgba.shape[1::-1]]
                    sizes.append(cv2.resize(rgba, wh, interpolation=cv2.INTER_AREA))
            styles.append(sizes)
        sprites.append(styles)
    return sprites


def _noise(rng: np.random.Generator, h: int, w: int, cell: tuple[float, float]) -> np.ndarray:
    """Draw smooth noise ``(h, w)`` in [0, 1]; ``cell`` is the grain's ``(h, w)`` in pixels."""
    shape = (int(h / cell[0]) + 2, int(w / cell[1]) + 2)
    return cv2.resize(rng.random(shape, dtype=np.float32), (w, h), interpolation=cv2.INTER_LINEAR)


def _mix(low: list[float], high: list[float], t: np.ndarray) -> np.ndarray:
    """Mix two RGB colours with weights ``t`` ``(H, W)`` in [0, 1]: ``(H, W, 3)`` float32."""
    a, b = np.float32(low), np.float32(high)
    return a + (b - a) * t[..., None]


def _grass(rng: np.random.Generator, h: int, w: int) -> np.ndarray:
    t = 0.6 * _noise(rng, h, w, (7, 1.5)) + 0.4 * _noise(rng, h, w, (24, 24))
    return _mix([30, 85, 20], [125, 190, 70], t)


def _sky(rng: np.random.Generator, h: int, w: int) -> np.ndarray:
    t = np.linspace(0, 1, h, dtype=np.float32)[:, None].repeat(w, 1)
    cloud = _noise(rng, h, w, (14, 30)) * 0.6 + _noise(rng, h, w, (6, 12)) * 0.4
    cloud = np.clip((cloud - rng.uniform(0.45, 0.75)) * 5, 0, 1)[..., None]
    return _mix([80, 150, 230], [180, 215, 245], t) * (1 - cloud) + 250 * cloud


def _sand(rng: np.random.Generator, h: int, w: int) -> np.ndarray:
    t = 0.5 * _noise(rng, h, w, (1, 1)) + 0.5 * _noise(rng, h, w, (10, 40))
    return _mix([190, 155, 100], [240, 215, 165], t)


def _water(rng: np.random.Generator, h: int, w: int) -> np.ndarray:
    y = np.arange(h, dtype=np.float32)[:, None]
    wave = np.sin(y * rng.uniform(0.5, 0.9) + 7 * _noise(rng, h, w, (12, 24)))
    return _mix([15, 80, 140], [70, 165, 200], wave * 0.5 + 0.5)


def _wall(rng: np.random.Generator, h: int, w: int) -> np.ndarray:
    rows = int(rng.integers(8, 14))
    y, x = np.arange(h)[:, None], np.arange(w)[None]
    row = y // rows
    column = (x + (row % 2) * rows) // (2 * rows)
    mortar = (y % rows < 2) | ((x + (row % 2) * rows) % (2 * rows) < 2)
    shade = rng.random((h // rows + 1, w // rows + 3), dtype=np.float32)[row, column]
    bricks = _mix([130, 55, 40], [185, 95, 70], shade)
    return np.where(mortar[..., None], np.float32([200, 190, 180]), bricks)


def _wood(rng: np.random.Generator, h: int, w: int) -> np.ndarray:
    plank = int(rng.integers(18, 32))
    y = np.arange(h)
    t = 0.7 * _noise(rng, h, w, (1.5, 30)) + 0.3 * rng.random(h // plank + 1)[y // plank][:, None]
    out = _mix([95, 55, 25], [185, 130, 80], t.astype(np.float32))
    out[y % plank < 2] *= 0.5
    return out


def _snow(rng: np.random.Generator, h: int, w: int) -> np.ndarray:
    t = 0.7 * _noise(rng, h, w, (20, 40)) + 0.3 * _noise(rng, h, w, (1, 1))
    return _mix([200, 215, 235], [255, 255, 255], t)


def _night(rng: np.random.Generator, h: int, w: int) -> np.ndarray:
    out = _mix([5, 5, 25], [35, 30, 75], _noise(rng, h, w, (40, 40)))
    n = max(1, h * w // 160)
    out[rng.integers(0, h, n), rng.integers(0, w, n)] = rng.uniform(120, 255, (n, 1))
    return out


def _stone(rng: np.random.Generator, h: int, w: int) -> np.ndarray:
    t = sum(_noise(rng, h, w, (c, c)) * g for c, g in ((16, 0.5), (5, 0.3), (2, 0.2)))
    return _mix([60, 60, 65], [190, 188, 185], np.clip(t * 2 - 0.5, 0, 1))


def _cloth(rng: np.random.Generator, h: int, w: int) -> np.ndarray:
    period = int(rng.integers(12, 22))
    y, x = np.arange(h)[:, None], np.arange(w)[None]
    plaid = 0.5 * (y % period < period // 2) + 0.5 * (x % period < period // 2)
    high = [[215, 80, 95], [120, 90, 190], [225, 175, 90]][rng.integers(3)]
    return _mix([c * 0.45 for c in high], high, plaid.astype(np.float32))


def _colours(rng: np.random.Generator) -> tuple[list[float], list[float]]:
    a, b = rng.uniform(20, 240, (2, 3))
    return list(a), list(b)


def _ramp(rng: np.random.Generator, h: int, w: int) -> np.ndarray:
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.arange(h, dtype=np.float32)[:, None], np.arange(w, dtype=np.float32)[None]
    return np.float32(np.cos(angle)) * x + np.float32(np.sin(angle)) * y


def _gradient(rng: np.random.Generator, h: int, w: int) -> np.ndarray:
    t = _ramp(rng, h, w)
    return _mix(*_colours(rng), (t - t.min()) / max(float(np.ptp(t)), 1.0))


def _stripes(rng: np.random.Generator, h: int, w: int) -> np.ndarray:
    t = (_ramp(rng, h, w) % (period := rng.uniform(6, 24))) < period / 2
    return _mix(*_colours(rng), t.astype(np.float32))


def _dots(rng: np.random.Generator, h: int, w: int) -> np.ndarray:
    period, radius = rng.uniform(8, 20), rng.uniform(0.2, 0.4)
    y, x = np.arange(h)[:, None] / period % 1 - 0.5, np.arange(w)[None] / period % 1 - 0.5
    return _mix(*_colours(rng), (y**2 + x**2 < radius**2).astype(np.float32))


def _blotches(rng: np.random.Generator, h: int, w: int) -> np.ndarray:
    cell = rng.uniform(6, 24)
    return _mix(*_colours(rng), _noise(rng, h, w, (cell, cell)))


def _checker(rng: np.random.Generator, h: int, w: int) -> np.ndarray:
    period = int(rng.integers(6, 20))
    t = (np.arange(h)[:, None] // period + np.arange(w)[None] // period) % 2
    return _mix(*_colours(rng), t.astype(np.float32))


def _rings(rng: np.random.Generator, h: int, w: int) -> np.ndarray:
    y, x = np.arange(h)[:, None] - rng.uniform(0, h), np.arange(w)[None] - rng.uniform(0, w)
    t = np.sin(np.sqrt(y**2 + x**2) * rng.uniform(0.2, 0.7)) * 0.5 + 0.5
    return _mix(*_colours(rng), t.astype(np.float32))


_PAINTERS: dict[str, Callable[[np.random.Generator, int, int], np.ndarray]] = {
    'grass': _grass, 'sky': _sky, 'sand': _sand, 'water': _water, 'wall': _wall, 'wood': _wood,
    'snow': _snow, 'night': _night, 'stone': _stone, 'cloth': _cloth, 'gradient': _gradient,
    'stripes': _stripes, 'dots': _dots, 'blotches': _blotches, 'checker': _checker,
    'rings': _rings,
}  # fmt: skip


def _paint(rng: np.random.Generator, kind: str, h: int, w: int) -> np.ndarray:
    """Paint one background ``(h, w, 3)`` float32 with jittered colours."""
    return (
        _PAINTERS[kind](rng, h, w)
        * rng.uniform(0.8, 1.15)
        * rng.uniform(0.93, 1.07, 3).astype(np.float32)
    )


def _background(
    rng: np.random.Generator, h: int, w: int, patterns: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a background of one or two parts, and each pixel's index into ``BACKGROUNDS`` or -1."""

    def draw() -> str:
        kinds = BACKGROUNDS if rng.random() < 0.75 else patterns
        return kinds[rng.integers(len(kinds))]

    kind = draw()
    canvas = _paint(rng, kind, h, w)
    index = np.full((h, w), BACKGROUNDS.index(kind) if kind in BACKGROUNDS else -1, np.int8)
    if rng.random() < 0.35:
        kind = draw()
        edge = int(h * rng.uniform(0.3, 0.7))
        canvas[edge:] = _paint(rng, kind, h - edge, w)
        index[edge:] = BACKGROUNDS.index(kind) if kind in BACKGROUNDS else -1
    return canvas, index


class BackgroundBank:
    """Large backgrounds from which training scenes are cut, because painting is slow.

    Args:
        rng: Random generator.
        count: Number of backgrounds.
        side: Side of a background in pixels.
    """

    def __init__(self, rng: np.random.Generator, count: int = 1500, side: int = 192) -> None:
        self.side = side
        self.kinds = [
            kinds[rng.integers(len(kinds))]
            for kinds in (BACKGROUNDS if rng.random() < 0.75 else PATTERNS for _ in range(count))
        ]
        self.pictures = [
            np.clip(_paint(rng, kind, side, side), 0, 255).astype(np.uint8) for kind in self.kinds
        ]

    def cut(self, rng: np.random.Generator, h: int, w: int) -> tuple[np.ndarray, int]:
        """Cut a piece ``(h, w, 3)`` float32; also returns its index into ``BACKGROUNDS`` or -1."""
        i = rng.integers(len(self.kinds))
        y, x = rng.integers(0, self.side - h + 1), rng.integers(0, self.side - w + 1)
        piece = self.pictures[i][y : y + h, x : x + w]
        if rng.random() < 0.5:
            piece = piece[:, ::-1]
        kind = self.kinds[i]
        index = BACKGROUNDS.index(kind) if kind in BACKGROUNDS else -1
        return piece * np.float32(rng.uniform(0.9, 1.1)), index

    def draw(self, rng: np.random.Generator, h: int, w: int) -> tuple[np.ndarray, np.ndarray]:
        """Draw a background of one or two pieces, and each pixel's index or -1."""
        canvas, kind = self.cut(rng, h, w)
        index = np.full((h, w), kind, np.int8)
        if rng.random() < 0.35:
            edge = int(h * rng.uniform(0.3, 0.7))
            canvas[edge:], index[edge:] = self.cut(rng, h - edge, w)
        return canvas, index


def _overlap(box: tuple[float, ...], others: list[tuple[float, ...]]) -> float:
    """Return the largest overlap of the box with another, as a share of the smaller box."""
    worst = 0.0
    for o in others:
        w = min(box[2], o[2]) - max(box[0], o[0])
        h = min(box[3], o[3]) - max(box[1], o[1])
        if w > 0 and h > 0:
            area = min((box[2] - box[0]) * (box[3] - box[1]), (o[2] - o[0]) * (o[3] - o[1]))
            worst = max(worst, w * h / area)
    return worst


def render_scene(
    sprites: Sprites,
    rng: np.random.Generator,
    height: int,
    width: int,
    count: int,
    sizes: tuple[float, float],
    patterns: tuple[str, ...] = PATTERNS,
    max_overlap: float = 0.3,
    bank: BackgroundBank | None = None,
) -> Scene:
    """Render one scene.

    Args:
        sprites: Result of ``load_sprites``.
        rng: Random generator.
        height: Image height in pixels.
        width: Image width in pixels.
        count: Number of objects, of different classes. An object without a free place is left
            out.
        sizes: Smallest and largest long side of an object in pixels.
        patterns: Backgrounds without a name.
        max_overlap: Largest overlap of two objects, as a share of the smaller box.
        bank: Source of the background. Default: paint a new background.

    Returns:
        The scene.
    """
    if bank is None:
        canvas, background = _background(rng, height, width, patterns)
    else:
        canvas, background = bank.draw(rng, height, width)
    owner = np.zeros((height, width), np.uint8)
    placed: list[tuple[float, ...]] = []
    classes, areas = [], []
    for c in rng.permutation(len(sprites))[:count]:
        size = float(np.exp(rng.uniform(np.log(sizes[0]), np.log(sizes[1]))))
        pyramid = sprites[c][rng.integers(len(sprites[c]))]
        sprite = next((s for s in reversed(pyramid) if max(s.shape[:2]) >= size), pyramid[0])
        angle = np.deg2rad(rng.normal(0, 12))
        scale = size / max(sprite.shape[:2])
        sh, sw = sprite.shape[:2]
        cos, sin = scale * np.cos(angle), scale * np.sin(angle)
        bw, bh = abs(cos) * sw + abs(sin) * sh, abs(sin) * sw + abs(cos) * sh
        for _ in range(12):
            margin_x, margin_y = min(0.42 * bw, width / 2), min(0.42 * bh, height / 2)
            cx = rng.uniform(margin_x, width - margin_x)
            cy = rng.uniform(margin_y, height - margin_y)
            box = (cx - bw / 2, cy - bh / 2, cx + bw / 2, cy + bh / 2)
            if _overlap(box, placed) <= max_overlap:
                break
        else:
            continue
        # Only the object's window is warped; it may extend beyond the image.
        x0, y0 = int(np.floor(box[0])), int(np.floor(box[1]))
        ww, wh = int(np.ceil(box[2])) - x0 + 1, int(np.ceil(box[3])) - y0 + 1
        flip = 1 if rng.random() < 0.5 else -1
        matrix = np.float32([[flip * cos, -sin, 0], [flip * sin, cos, 0]])
        matrix[:, 2] = np.float32([cx - x0, cy - y0]) - matrix[:, :2] @ np.float32([sw / 2, sh / 2])
        window = cv2.warpAffine(sprite, matrix, (ww, wh), flags=cv2.INTER_LINEAR)
        alpha = cv2.extractChannel(window, 3)
        full = alpha > 127
        left, top = max(0, -x0), max(0, -y0)
        right, bottom = min(ww, width - x0), min(wh, height - y0)
        part = (slice(top, bottom), slice(left, right))
        region = (slice(y0 + top, y0 + bottom), slice(x0 + left, x0 + right))
        gains = rng.uniform(0.8, 1.15) * rng.uniform(0.9, 1.1, 3)
        colour = cv2.multiply(cv2.cvtColor(window[part], cv2.COLOR_RGBA2RGB), (*gains, 0))
        through = 1 - alpha[part] / 255
        through = cv2.merge((through, through, through))
        canvas[region] = cv2.add(cv2.multiply(canvas[region], through), colour)
        placed.append(box)
        classes.append(int(c))
        areas.append(int(full.sum()))
        owner[region][full[part]] = len(placed)

    mask = np.zeros((height, width), np.uint8)
    objects = []
    for i, (c, area) in enumerate(zip(classes, areas, strict=True), 1):
        seen = owner == i
        pixels = int(seen.sum())
        # A barely visible object gets no label; its pixels are neither class nor background.
        if pixels < max(MIN_PIXELS, MIN_VISIBLE * area):
            mask[seen] = 255
            continue
        mask[seen] = c + 1
        ys, xs = np.nonzero(seen.any(1))[0], np.nonzero(seen.any(0))[0]
        objects.append((c, (int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1)))
    free = background[owner == 0]
    shares = np.bincount(free[free >= 0], minlength=len(BACKGROUNDS)) / owner.size
    image = cv2.convertScaleAbs(canvas)
    return Scene(image, mask, objects, [int(i) for i in np.nonzero(shares >= MIN_BACKGROUND)[0]])


def scene_rng(split: str, seed: int, index: int) -> np.random.Generator:
    """Return the random generator of one scene; it differs between splits."""
    return np.random.default_rng([SPLITS[split], seed, index])


def training_scene(
    sprites: Sprites,
    rng: np.random.Generator,
    side: int,
    single: bool,
    bank: BackgroundBank | None = None,
) -> Scene:
    """Render a square training scene with one object, or with one to three.

    Args:
        sprites: Result of ``load_sprites``.
        rng: Random generator.
        side: Image side in pixels.
        single: Whether the scene contains exactly one object.
        bank: Source of the background. Default: paint a new background.

    Returns:
        The scene.
    """
    if single:
        count = 1
    elif side < 128:
        count = int(rng.choice(3, p=(0.3, 0.35, 0.35))) + 1
    else:
        count = int(rng.integers(1, 5 if side < 192 else 7))
    largest = (1.0, 0.75, 0.6, 0.5, 0.45, 0.42)[count - 1] * side
    return render_scene(sprites, rng, side, side, count, (26, max(largest, 40)), bank=bank)


def evaluation_scene(
    sprites: Sprites, rng: np.random.Generator, side: int | None = None, held_out: bool = True
) -> Scene:
    """Render a larger scene with two to six objects.

    Args:
        sprites: Result of ``load_sprites``.
        rng: Random generator.
        side: Side of a square image in pixels. Default: both sides are drawn from 160 to 384.
        held_out: Whether unnamed patterns are those that training never shows.

    Returns:
        The scene, with at least two labelled objects.
    """
    patterns = HELD_OUT_PATTERNS if held_out else PATTERNS
    while True:
        if side is None:
            height, width = (int(n) for n in rng.integers(160, 385, 2))
        else:
            height = width = side
        largest = min(96.0, 0.42 * min(height, width))
        count = int(rng.integers(2, 7))
        scene = render_scene(sprites, rng, height, width, count, (32, largest), patterns)
        if len(scene.objects) >= 2:
            return scene


def _palette() -> np.ndarray:
    """Return the PASCAL VOC palette, ``(256, 3)`` uint8."""
    palette = np.zeros((256, 3), np.uint8)
    for i in range(256):
        for bit in range(8):
            for channel in range(3):
                palette[i, channel] |= ((i >> (3 * bit + channel)) & 1) << (7 - bit)
    return palette


def _annotation(name: str, scene: Scene) -> str:
    """Format the scene's objects as PASCAL VOC XML; coordinates are 1-based and inclusive."""
    root = ElementTree.Element('annotation')
    ElementTree.SubElement(root, 'folder').text = 'JPEGImages'
    ElementTree.SubElement(root, 'filename').text = f'{name}.jpg'
    size = ElementTree.SubElement(root, 'size')
    for tag, value in zip(('width', 'height', 'depth'), (*scene.mask.shape[::-1], 3), strict=True):
        ElementTree.SubElement(size, tag).text = str(value)
    ElementTree.SubElement(root, 'segmented').text = '1'
    for c, (x0, y0, x1, y1) in scene.objects:
        node = ElementTree.SubElement(root, 'object')
        ElementTree.SubElement(node, 'name').text = NAMES[c]
        ElementTree.SubElement(node, 'difficult').text = '0'
        box = ElementTree.SubElement(node, 'bndbox')
        edges = {'xmin': x0 + 1, 'ymin': y0 + 1, 'xmax': x1, 'ymax': y1}
        for tag, value in edges.items():
            ElementTree.SubElement(box, tag).text = str(value)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding='unicode') + '\n'


def write_voc(scenes: list[Scene], out: Path, quality: int = 85) -> None:
    """Write scenes as a data set in PASCAL VOC's layout, image set ``test``.

    Args:
        scenes: The scenes.
        out: Folder to write.
        quality: JPEG quality.
    """
    from PIL import Image

    folders = ('JPEGImages', 'Annotations', 'SegmentationClass')
    for folder in (*folders, 'ImageSets/Main', 'ImageSets/Segmentation'):
        (out / folder).mkdir(parents=True, exist_ok=True)
    palette = _palette().tobytes()
    names = [f'{i:06d}' for i in range(len(scenes))]
    for name, scene in zip(names, scenes, strict=True):
        Image.fromarray(scene.image).save(out / f'JPEGImages/{name}.jpg', quality=quality)
        mask = Image.fromarray(scene.mask, 'P')
        mask.putpalette(palette)
        mask.save(out / f'SegmentationClass/{name}.png', optimize=True)
        (out / f'Annotations/{name}.xml').write_text(_annotation(name, scene))
    for folder in ('Main', 'Segmentation'):
        (out / f'ImageSets/{folder}/test.txt').write_text('\n'.join(names) + '\n')
    (out / 'classes.txt').write_text('\n'.join(NAMES) + '\n')
    (out / 'background.txt').write_text('\n'.join(BACKGROUNDS) + '\n')


def main() -> None:
    """Render a set in PASCAL VOC's layout."""
    parser = argparse.ArgumentParser(description='Render scenes of the demo world.')
    parser.add_argument('--sprites', type=Path, required=True, help='folder of fetch_sprites.sh')
    parser.add_argument('--split', choices=('dev', 'test', 'measure'), default='test')
    parser.add_argument('--count', type=int, default=120, help='number of scenes')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument(
        '--held-out-style', action='store_true', help='draw the style that training never sees'
    )
    parser.add_argument('--out', type=Path, required=True, help='folder to write')
    args = parser.parse_args()
    sprites = load_sprites(args.sprites, HELD_OUT_STYLES if args.held_out_style else STYLES)
    scenes = [
        evaluation_scene(sprites, scene_rng(args.split, args.seed, i)) for i in range(args.count)
    ]
    write_voc(scenes, args.out)
    objects = sum(len(s.objects) for s in scenes)
    print(f'{len(scenes)} scenes with {objects} objects in {args.out}')


if __name__ == '__main__':
    main()
