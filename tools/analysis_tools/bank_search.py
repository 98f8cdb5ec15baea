"""Measure the search in a memory bank of generated regions: seconds, memory, and what FAISS finds.

    python tools/analysis_tools/bank_search.py --rows 1000000 --out work_dirs/bank.json

Keys lie around centres, and queries are keys with noise, as regions of like things would. The bank
stays in --scratch for another run. Memory is that of this process: all of it, its anonymous part,
and the mapped files (the bank, and torch's libraries), each at its highest; and before the search.
"""

import argparse
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import measuring
import torch
from torch.nn import functional as F

from mmtagclip.files import write_whole
from mmtagclip.regions.bank import MemoryBank, bank_content

PIECE = 8192
SPREAD = 0.7  # of keys around a centre: cosines within are about 1 / (1 + SPREAD ** 2)
PER_CENTRE = 100


def generated(rows: int, size: int, seed: int) -> Iterator[torch.Tensor]:
    """Vectors ``(n, size)`` float32 of unit length around centres, some at a time."""
    random = torch.Generator().manual_seed(seed)
    count = max(rows // PER_CENTRE, 1)
    centres = F.normalize(torch.randn(count, size, generator=random))
    for start in range(0, rows, PIECE):
        number = min(PIECE, rows - start)
        chosen = centres[torch.randint(0, count, (number,), generator=random)]
        noise = torch.randn(number, size, generator=random) * (SPREAD / size**0.5)
        yield F.normalize(chosen + noise)


def make_bank(path: Path, rows: int, key_size: int, size: int) -> None:
    """Write a bank of generated regions."""
    nobody = {'name': 'generated', 'architecture': '', 'weights': ''}
    facts = {
        'rows': rows,
        'key_dimension': key_size,
        'dimension': size,
        'dtype': 'float16',
        'encoder': nobody,
        'source': nobody,
        'settings': {},
        'regions': '',
        'content': f'{rows:08d}',
        'errors': {},
    }
    keys, values = (
        (part.half().numpy().tobytes() for part in generated(rows, width, seed))
        for width, seed in ((key_size, 0), (size, 1))
    )
    write_whole(path, bank_content(facts, ['generated'], [0] * rows, range(rows), keys, values))


class Memory:
    """The highest memory of this process in bytes, read again and again while something runs."""

    KEYS = ('VmRSS', 'RssAnon', 'RssFile')

    def __init__(self) -> None:
        self.highest = dict.fromkeys(self.KEYS, 0)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> 'Memory':
        self._thread.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.005):
            for key in self.KEYS:
                self.highest[key] = max(self.highest[key], measuring.status(key))


def measured(function: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """The result of a function, with its seconds, its CPU seconds and the memory in GB."""
    with Memory() as memory:
        wall, cpu = time.perf_counter(), time.process_time()
        result = function()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    gigabytes = {key: round(value / 1e9, 3) for key, value in memory.highest.items()}
    return result, {'seconds': round(wall, 2), 'cpu_seconds': round(cpu, 2), **gigabytes}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('--rows', type=int, default=1_000_000)
    parser.add_argument('--key-size', type=int, default=1024)
    parser.add_argument('--size', type=int, default=512, help='of the values')
    parser.add_argument('--queries', type=int, default=300)
    parser.add_argument('--neighbours', type=int, default=20)
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--faiss', metavar='FACTORY', help="FAISS's index, such as IVF1000,PQ32")
    parser.add_argument('--nprobe', type=int, default=256)
    parser.add_argument('--candidates', type=int, nargs='+', default=[20, 500])
    parser.add_argument('--scratch', type=Path, default=Path('work_dirs'))
    parser.add_argument('--out', type=Path)
    measuring.add_device(parser)
    args = parser.parse_args()
    path = args.scratch / f'bank_{args.rows}_{args.key_size}_{args.size}.safetensors'
    if not path.exists():
        make_bank(path, args.rows, args.key_size, args.size)
    bank = MemoryBank(path)
    some = next(bank.keys(PIECE))[: args.queries]
    noise = torch.randn(some.shape, generator=torch.Generator().manual_seed(2))
    queries = F.normalize(some + noise * (SPREAD / some.shape[1] ** 0.5)).to(args.device)

    def ask(bank: MemoryBank) -> torch.Tensor:
        rows = bank.search(queries, args.neighbours)
        bank.values(rows)
        return rows

    _, before = measured(lambda: time.sleep(0.1))
    rows: dict[str, Any] = {
        'machine': measuring.machine(args.device),
        'before': {key: before[key] for key in Memory.KEYS},
        'exact': [],
    }
    for _ in range(args.repeats):
        exact, figures = measured(lambda: ask(bank))
        rows['exact'].append(figures)
    if args.faiss:
        if not bank.index_path.exists():
            _, rows['index'] = measured(lambda: bank.add_index(args.faiss))
        for candidates in args.candidates:
            quick = MemoryBank(path, 'faiss', args.nprobe, candidates)
            rows[f'faiss, {candidates} candidates'] = figures = []
            for _ in range(args.repeats):
                found, one = measured(lambda quick=quick: ask(quick))
                figures.append(one)
            same = (found[:, :, None] == exact[:, None]).any(dim=2)
            figures.append({'found': round(same.float().mean().item(), 3)})
    text = json.dumps(rows, indent=2)
    print(text)
    if args.out is not None:
        write_whole(args.out, text.encode())


if __name__ == '__main__':
    main()
