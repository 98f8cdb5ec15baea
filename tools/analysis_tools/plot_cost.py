"""Measure how time and memory grow, and draw them beside a lower bound.

    python tools/analysis_tools/plot_cost.py --out docs/cost.json --figure docs/cost.png

The bound (floor) is the number of floating point operations divided by the rate of plain matrix
products in the same run. Softmax is not in it: the seconds of the exponentials of all attention
maps, measured in the same run, are drawn beside it. Weights and images are random, because only
sizes matter here. The largest image takes minutes; --max-side leaves it out. If --out exists and
--measure is not given, the script only draws the figure again.
"""

import argparse
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import measuring
import torch
from matplotlib.ticker import LogLocator
from torch.nn import functional as F

from mmtagclip.clip import DenseEncoder, load_clip
from mmtagclip.files import write_whole
from mmtagclip.models import CWR, DMAR

matplotlib.use('Agg')
from matplotlib import pyplot as plt

SIDES = (224, 320, 480, 640, 896, 1280, 2048)
CLASSES = (20, 80, 171, 500, 1500, 4585)
CANDIDATES = (1, 2, 4, 8, 16, 32)
BATCHES = (1, 2, 4, 8)
USUAL = (480, 640)
LAYERS = ((8, 9, 10),)
# Title of the panels of each axis.
AXES = {
    'side': 'side of a square image, pixels',
    'classes': 'class names',
    'candidates': 'candidates of CWR',
    'batch': 'images per batch',
}


class Measurement:
    """The measurements, one method per axis.

    Args:
        max_side: Side of the largest image, in pixels.
        device: Where to compute.
    """

    def __init__(self, max_side: int, device: str) -> None:
        self.max_side = max_side
        self.device = device
        loaded = load_clip(measuring.load_model(None))
        narrow = ['bfloat16'] if measuring.has_bfloat16(device) else []
        self.encoders = {
            dtype: DenseEncoder(load_clip(loaded.model), dtype=dtype).to(device)
            for dtype in ('float32', *narrow)
        }
        self.rates = {
            name: measuring.matmul_rate(one.dtype, device) for name, one in self.encoders.items()
        }
        self.exact = self.encoders['float32']
        self.dim = self.exact.dim
        patch = self.exact.patch_size
        self.grid = (USUAL[0] // patch, USUAL[1] // patch)

    def random(self, *shape: int) -> torch.Tensor:
        """Random numbers, the same in each run."""
        return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).to(self.device)

    def image(self, batch: int, height: int, width: int) -> torch.Tensor:
        """Random input of the encoder."""
        return self.random(batch, 3, height, width)

    def text(self, count: int) -> torch.Tensor:
        """Random text features ``(count, D)``."""
        return F.normalize(self.random(count, self.dim), dim=-1)

    def point(
        self,
        axis: str,
        value: int,
        what: str,
        function: Any,
        operations: float,
        rate: float,
        images: int = 1,
        **details: float,
    ) -> dict[str, Any]:
        """Time and memory of one call."""
        once: list[float] = []
        memory = measuring.peak_memory(lambda: once.append(measuring.timed(function)), self.device)
        seconds = once[0] if once[0] > 20 else measuring.seconds(function)
        return {
            'axis': axis,
            'value': value,
            'what': what,
            'seconds': seconds / images,
            'floor': operations / rate / images,
            'bytes': memory,
            **details,
        }

    def side(self) -> Iterator[dict[str, Any]]:
        """Square images of increasing size."""
        for name, encoder in self.encoders.items():
            for side in (side for side in SIDES if side <= self.max_side):
                one = self.image(1, side, side)
                yield self.point(
                    'side',
                    side,
                    f'dense features, {name}',
                    lambda e=encoder, x=one: e(x, LAYERS, votes=True),
                    measuring.flops(encoder, side, side),
                    self.rates[name],
                    exponentials=measuring.attention_steps(encoder, side, side)['exponentials'],
                )

    def classes(self) -> Iterator[dict[str, Any]]:
        """Lists of names of increasing length."""
        dmar, patches = DMAR(layers=LAYERS[0]), self.grid[0] * self.grid[1]
        encoded = self.exact(self.image(1, *USUAL), LAYERS, votes=True)
        for count in CLASSES:
            names = self.text(count)

            def refine(names: torch.Tensor = names) -> None:
                scores = (self.exact.logit_scale * encoded.patches @ names.T).softmax(-1)
                dmar(scores, encoded.attention, encoded.grid)

            operations = 2 * patches * count * (self.dim + 2 * patches)
            yield self.point(
                'classes',
                count,
                'coarse scores and DMAR',
                refine,
                operations,
                self.rates['float32'],
            )

    def candidates(self) -> Iterator[dict[str, Any]]:
        """Increasing numbers of candidates of CWR."""
        names, cwr, one = self.text(103), CWR(max_crops=32), self.image(1, *USUAL)
        for count in CANDIDATES:
            refined = measuring.made_candidates(count, self.grid, len(names)).to(self.device)
            yield self.point(
                'candidates',
                count,
                'CWR',
                lambda r=refined: cwr(r, r.amax(dim=1), self.grid, one, names, self.exact),
                count * measuring.flops(self.exact, *self.exact.native_size),
                self.rates['float32'],
            )

    def batch(self) -> Iterator[dict[str, Any]]:
        """Batches of increasing size."""
        for name, encoder in self.encoders.items():
            for size in BATCHES:
                batch = self.image(size, *USUAL)
                yield self.point(
                    'batch',
                    size,
                    f'dense features, {name}',
                    lambda e=encoder, x=batch: e(x, LAYERS, votes=True),
                    size * measuring.flops(encoder, *USUAL),
                    self.rates[name],
                    size,
                )


def draw(points: list[dict[str, Any]], path: Path) -> None:
    """Draw the figure: seconds above, memory below, one column per axis."""
    figure, panels = plt.subplots(2, len(AXES), figsize=(15, 7), constrained_layout=True)
    for column, (axis, label) in enumerate(AXES.items()):
        time, memory = panels[0, column], panels[1, column]
        for number, what in enumerate(
            dict.fromkeys(one['what'] for one in points if one['axis'] == axis)
        ):
            mine = [one for one in points if one['axis'] == axis and one['what'] == what]
            values = [one['value'] for one in mine]
            colour = f'C{number}'
            time.plot(values, [one['seconds'] for one in mine], 'o-', color=colour, label=what)
            time.plot(values, [one['floor'] for one in mine], ':', color=colour, label='its floor')
            if all('exponentials' in one for one in mine):
                needed = [one['exponentials'] for one in mine]
                time.plot(values, needed, '--', color=colour, label='exponentials alone')
            if all(one['bytes'] for one in mine):
                memory.plot(
                    values, [one['bytes'] / 2**20 for one in mine], 'o-', color=colour, label=what
                )
        for panel in (time, memory):
            panel.set_xscale('log')
            panel.set_yscale('log')
            panel.minorticks_off()
            panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panel.yaxis.set_major_formatter('{x:g}')
            values = sorted({one['value'] for one in points if one['axis'] == axis})
            panel.set_xticks(values, [str(value) for value in values], rotation=45)
            panel.grid(alpha=0.3)
            panel.legend(fontsize=8)
        time.set_title(label)
    panels[0, 0].set_ylabel('seconds per image')
    panels[1, 0].set_ylabel('peak memory above the model, MiB')
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=100)
    write_whole(path, buffer.getvalue())


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', type=Path, required=True, help='JSON file of the measured points')
    parser.add_argument('--figure', type=Path, help='image file to draw')
    parser.add_argument(
        '--measure',
        nargs='*',
        choices=AXES,
        metavar='AXIS',
        help=f'measure again: {", ".join(AXES)} (default: all); other points of --out are kept',
    )
    parser.add_argument(
        '--max-side',
        type=int,
        default=SIDES[-1],
        help=f'largest image, pixels per side (default: {SIDES[-1]})',
    )
    measuring.add_device(parser)
    args = parser.parse_args()
    if args.measure is not None or not args.out.is_file():
        points = json.loads(args.out.read_text()) if args.out.is_file() else []
        measurement = Measurement(args.max_side, args.device)
        for axis in args.measure or AXES:
            points = [one for one in points if one['axis'] != axis]
            for one in getattr(measurement, axis)():
                points.append(one)
                print(json.dumps(one), flush=True)
            write_whole(args.out, json.dumps(points, indent=1).encode(), b'\n')
    if args.figure is not None:
        draw(json.loads(args.out.read_text()), args.figure)


if __name__ == '__main__':
    main()
