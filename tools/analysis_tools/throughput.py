"""Measure how many images per second the tagger tags, by dtype and batch size.

    python tools/analysis_tools/throughput.py --device cuda --out work_dirs/gpu

Writes ``throughput.json`` and the table ``throughput.md`` into the folder, again after each row, so
that an interrupted run leaves what it measured. ViT-B/16 with random weights, which are as fast as
trained ones; generated images, which are on the device already: reading is not measured. CWR's
threshold is set so that an image has about CANDIDATES candidates, because random weights give many.

The share is the number of floating point operations of the image tower (the crops of CWR included),
divided by the seconds and by the rate of plain matrix products in the same dtype and run.
"""

import argparse
import json
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import measuring
import torch
from torch.nn import functional as F

from mmtagclip.clip import Names, Vocabulary
from mmtagclip.clip.encoder import DTYPES
from mmtagclip.files import write_whole

LISTS = {20: 'voc', 80: 'coco'}
BATCHES = (1, 2, 4, 8, 16, 32, 64)
CANDIDATES = 3
# A row takes these seconds, and at least this many rounds.
SECONDS, ROUNDS = 0.7, 3


class Throughput:
    """The rows of one dtype.

    Args:
        clip: The model; it stays as it is.
        dtype: Of the image tower's products.
        compiled: Whether ``torch.compile`` compiles its blocks.
        options: Of the command line.
    """

    def __init__(self, clip: Any, dtype: str, compiled: bool, options: argparse.Namespace) -> None:
        self.dtype = f'{dtype}, compiled' if compiled else dtype
        self.device, self.size = options.device, tuple(options.size)
        self.batches, self.quick = options.batches, options.quick
        self.tagger = measuring.build_tagger(clip, ['a'], [], dtype, compiled).to(self.device)
        self.encoder, self.head = self.tagger.encoder, self.tagger.head
        self.rate = measuring.matmul_rate(DTYPES[dtype], self.device, options.matmul)

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows, the batch sizes together so that a run that is cut off has all of them."""
        for batch in self.batches:
            images = self.images(batch)
            operations = batch * measuring.flops(self.encoder, *self.size)
            yield self.row('encoder', batch, lambda x=images: self.tagger.encode(x), operations)
            for count in LISTS:
                names = self.names(count)
                found = self.calibrate(images, names)
                crops = found * measuring.flops(self.encoder, *self.encoder.native_size)
                row = self.row(
                    f'tagger, {count} names',
                    batch,
                    lambda x=images, n=names: self.tagger.score(x, n),
                    operations + crops,
                )
                yield {**row, 'candidates': found / batch}

    def row(
        self, what: str, batch: int, function: Callable[[], Any], operations: float
    ) -> dict[str, Any]:
        """One row."""
        memory = measuring.peak_memory(function, self.device)
        rounds = [measuring.timed(function)]
        while not self.quick and (len(rounds) < ROUNDS or sum(rounds) < SECONDS):
            rounds.append(measuring.timed(function))
        seconds = sorted(rounds)[len(rounds) // 2]
        waits = host_waits(function) if measuring.on_cuda(self.device) else None
        return {
            'what': what,
            'dtype': self.dtype,
            'batch': batch,
            'images_per_second': batch / seconds,
            'share': operations / seconds / self.rate,
            'bytes': memory,
            'waits': None if waits is None else waits.total(),
            'places': None if waits is None else dict(waits.most_common(8)),
        }

    def images(self, batch: int) -> torch.Tensor:
        """Smooth random images ``(B, 3, H, W)``, the same in each run."""
        noise = torch.randn(batch, 3, 12, 16, generator=torch.Generator().manual_seed(0))
        return F.interpolate(noise, size=self.size, mode='bicubic').to(self.device)

    def names(self, count: int) -> Names:
        """A list of names and its background, with random text features."""
        classes = Vocabulary.load(LISTS[count])
        background = Vocabulary.load(f'{LISTS[count]}_background')
        shape = len(classes) + len(background), self.encoder.dim
        text = torch.randn(*shape, generator=torch.Generator().manual_seed(1))
        return Names(classes, background, F.normalize(text, dim=-1).to(self.device))

    @torch.no_grad()
    def calibrate(self, images: torch.Tensor, names: Names) -> int:
        """Set CWR's threshold, and return the number of candidates in all images."""
        features = self.tagger.encode(images).features
        coarse = (self.encoder.logit_scale * features.patches @ names.text.T).softmax(-1)
        refined = self.head.dmar(coarse, features.attention, features.grid)
        scores = refined[..., : names.num_foreground].amax(dim=1)
        low, high = refined.amin(dim=(1, 2)), refined.amax(dim=(1, 2))
        relative = ((scores - low[:, None]) / (high - low)[:, None]).flatten().sort().values
        self.head.cwr.threshold = relative[-1 - CANDIDATES * len(images)].item()
        return len(self.head.cwr.candidates(refined, scores, features.grid))


def host_waits(function: Callable[[], Any]) -> Counter[str]:
    """How often the host waits for the GPU in one call, by the line of Python."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        torch.cuda.set_sync_debug_mode('warn')
        try:
            function()
        finally:
            torch.cuda.set_sync_debug_mode('default')
    return Counter(
        '/'.join(Path(one.filename).parts[-3:]) + f':{one.lineno}'
        for one in caught
        if 'synchroniz' in str(one.message)
    )


def table(content: dict[str, Any]) -> str:
    """The rows as a Markdown table."""
    machine, rates = content['machine'], content['matmul']
    words = [f'{dtype} {rate / 1e12:.3g}' for dtype, rate in rates.items()]
    lines = [
        f'{machine.get("device", machine["processor"])}, torch {machine["torch"]}, images of '
        f'{content["size"][0]}×{content["size"][1]}, ViT-B/16. Matrix products, TFLOP/s: '
        f'{", ".join(words)}.',
        '',
        '| what | dtype | batch | images/s | share of products | peak MiB | waits per batch '
        '| candidates per image |',
        '|---|---|---|---|---|---|---|---|',
    ]
    for row in content['rows']:
        memory = '' if row['bytes'] is None else f'{row["bytes"] / 2**20:.0f}'
        waits = '' if row['waits'] is None else row['waits']
        candidates = '' if 'candidates' not in row else f'{row["candidates"]:.2g}'
        lines.append(
            f'| {row["what"]} | {row["dtype"]} | {row["batch"]} | {row["images_per_second"]:.4g} '
            f'| {100 * row["share"]:.0f} % | {memory} | {waits} | {candidates} |'
        )
    if content['left_out']:
        lines += ['', f'Left out: {", ".join(content["left_out"])}.']
    return '\n'.join(lines) + '\n'


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    measuring.add_device(parser)
    parser.add_argument('--out', type=Path, required=True, help='folder to write to')
    parser.add_argument('--dtypes', nargs='+', choices=DTYPES, default=list(DTYPES))
    parser.add_argument(
        '--compiled',
        action='store_true',
        help='measure everything with torch.compile, too, at the end',
    )
    parser.add_argument(
        '--batches', nargs='+', type=int, default=BATCHES, help='(default: 1 2 4 8 16 32 64)'
    )
    parser.add_argument(
        '--size',
        nargs=2,
        type=int,
        default=(336, 512),
        metavar=('H', 'W'),
        help='multiples of 16 (default: 336 512, what 333x500 pixels become)',
    )
    parser.add_argument(
        '--seconds', type=float, default=1e9, help='start no row after this time (default: no end)'
    )
    parser.add_argument('--matmul', type=int, help='side of the matrices (default: 8192 on a GPU)')
    parser.add_argument(
        '--quick', action='store_true', help='try it out: one dtype, one small image, one round'
    )
    options = parser.parse_args()
    if options.quick:
        options.dtypes, options.batches, options.size = ['float32'], [1], (64, 96)
        options.matmul = 256
    for key in ('batches', 'size'):
        if min(getattr(options, key)) < 1:
            parser.error(f'--{key} must be positive')
    return options


def main() -> None:
    """Run the command."""
    end = time.perf_counter()
    options = parse_args()
    end += options.seconds
    options.out.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {
        'machine': measuring.machine(options.device),
        'size': list(options.size),
        'matmul': {},
        'rows': [],
        'left_out': [],
    }
    clip = measuring.load_model(None)
    for compiled in sorted({False, options.compiled}):
        for dtype in options.dtypes:
            if time.perf_counter() > end:
                words = f'{dtype}, compiled' if compiled else dtype
                content['left_out'].append(f'{words} (no time left)')
            else:
                measure(clip, dtype, compiled, options, content, end)
            write(options.out, content)
    print(table(content))


def measure(
    clip: Any,
    dtype: str,
    compiled: bool,
    options: argparse.Namespace,
    content: dict[str, Any],
    end: float,
) -> None:
    """Add the rows of one dtype, compiled or not."""
    try:
        throughput = Throughput(clip, dtype, compiled, options)
        content['matmul'][dtype] = throughput.rate
        for row in throughput.rows():
            content['rows'].append(row)
            print(json.dumps(row), flush=True)
            write(options.out, content)
            if time.perf_counter() > end:
                content['left_out'].append(f'rest of {dtype} (no time left)')
                return
    except torch.cuda.OutOfMemoryError:
        content['left_out'].append(f'rest of {dtype} (out of memory)')
        torch.cuda.empty_cache()


def write(folder: Path, content: dict[str, Any]) -> None:
    """Write both files."""
    write_whole(folder / 'throughput.json', json.dumps(content, indent=1).encode(), b'\n')
    write_whole(folder / 'throughput.md', table(content).encode())


if __name__ == '__main__':
    main()
