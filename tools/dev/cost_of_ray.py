"""What Ray costs beside the command line: seconds, CPU time and memory of whole process trees.

``python tools/dev/cost_of_ray.py FOLDER --workers 1 2`` runs ``mmtagclip tag`` with the demo's
model on the images of a folder: into one file, through the batch predictor, and on Ray. It prints a
table.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

TICKS = os.sysconf('SC_CLK_TCK')


MODELS = {'tag': 'tagclip_demo', 'segment': 'cls-seg_demo'}


def main() -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder', type=Path, help='images')
    parser.add_argument('--workers', type=int, nargs='*', default=[1, 2])
    parser.add_argument('--command', choices=MODELS, default='tag')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        paths = sorted(str(path.resolve()) for path in args.folder.glob('*.jpg'))
        names = Path(scratch, 'names.txt')
        names.write_text('\n'.join(paths))
        ways = {
            f'`mmtagclip {args.command}`, one process': (args.folder, 'a.parquet'),
            'the batch predictor on a list, one process': (names, 'b.parquet'),
        }
        engine = {
            f'Ray, {count} worker{"s" * (count > 1)}': (
                names, f'ray-{count}', '--engine', 'ray', '--workers', count,
            )
            for count in args.workers
        }  # fmt: skip
        print('| | seconds | CPU s | peak GB |\n|---|---|---|---|')
        for title, (source, out, *more) in (ways | engine).items():
            words = [args.command, source, '--model', MODELS[args.command]]
            words += ['--out', Path(scratch, out), *more]
            seconds, cpu, peak = measured([str(word) for word in words])
            print(f'| {title} | {seconds:.0f} | {cpu:.0f} | {peak / 1e9:.2f} |', flush=True)


def measured(words: list[str]) -> tuple[float, float, float]:
    """Seconds, CPU seconds and peak bytes of a command and of all processes that it starts."""
    mark = f'COST_OF_RAY={uuid.uuid4().hex}'
    name, _, value = mark.partition('=')
    environment = {**os.environ, name: value, 'OMP_NUM_THREADS': '1'}
    start = time.monotonic()
    command = [sys.executable, '-m', 'mmtagclip', *words, '--quiet']
    process = subprocess.Popen(command, env=environment)
    used: dict[int, float] = {}
    others: set[str] = set()  # whose environment need not be read again
    peak = 0.0
    while process.poll() is None:
        now = 0.0
        for entry in Path('/proc').iterdir():
            if entry.name.isdecimal() and entry.name not in others:
                cost = cost_of(entry, mark.encode())
                if cost is None:
                    others.add(entry.name)
                else:
                    used[int(entry.name)] = cost[0]
                    now += cost[1]
        peak = max(peak, now)
        time.sleep(2)
    assert process.returncode == 0, process.returncode
    return time.monotonic() - start, sum(used.values()), peak


def cost_of(entry: Path, mark: bytes) -> tuple[float, float] | None:
    """CPU seconds and bytes of a process that has the mark; shared memory counts in shares."""
    try:
        if mark not in (entry / 'environ').read_bytes():
            return None
        fields = (entry / 'stat').read_text().rpartition(')')[2].split()
        memory = (entry / 'smaps_rollup').read_text()
    except OSError:  # it has ended
        return None
    proportional = next(line for line in memory.splitlines() if line.startswith('Pss:'))
    return (int(fields[11]) + int(fields[12])) / TICKS, int(proportional.split()[1]) * 1024


if __name__ == '__main__':
    main()
