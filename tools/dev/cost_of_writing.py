"""What crash safety costs a run: the share of its CPU time spent on journal, digests and flushes.

    python tools/dev/cost_of_writing.py tag --model tagclip_demo
    python tools/dev/cost_of_writing.py segment --model cls-seg_demo

tags or segments copies of the demo's scenes in a temporary folder, in one process with one thread,
and counts the time inside the parts that write. The share includes what any program that writes
results has to do, such as encoding a line.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mmtagclip.apis.folder_run import FolderRun
from mmtagclip.cli import main as command
from mmtagclip.jobs import runner

SCENES = Path(__file__).parents[2] / 'demo' / 'data' / 'JPEGImages'


def main() -> None:
    """Measure one command."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('command', choices=['tag', 'segment'])
    parser.add_argument('--model', required=True, help='model of the command')
    parser.add_argument('--images', type=int, default=1000, help='how many (default: 1000)')
    args = parser.parse_args()
    torch.set_num_threads(1)
    spent = {'CPU': 0.0, 'wall': 0.0}
    inside = False

    def counted(call: Callable) -> Callable:
        def timed(*arguments: Any, **options: Any) -> Any:
            nonlocal inside
            if inside:
                return call(*arguments, **options)
            inside = True
            begun = time.process_time(), time.perf_counter()
            try:
                return call(*arguments, **options)
            finally:
                inside = False
                spent['CPU'] += time.process_time() - begun[0]
                spent['wall'] += time.perf_counter() - begun[1]

        return timed

    for owner, names in (
        (runner.Job, ('__init__', 'add', 'commit', 'finish')),
        (FolderRun, ('export',)),
        (runner, ('remove_results',)),
    ):
        for name in names:
            setattr(owner, name, counted(getattr(owner, name)))
    with tempfile.TemporaryDirectory() as place:
        images = Path(place) / 'images'
        images.mkdir()
        scenes = sorted(SCENES.glob('*.jpg'))
        for number in range(args.images):
            shutil.copyfile(scenes[number % len(scenes)], images / f'{number:06}.jpg')
        out = str(Path(place) / ('tags.jsonl' if args.command == 'tag' else 'masks'))
        begun = time.process_time(), time.perf_counter()
        status = command([args.command, str(images), '--model', args.model, '--out', out])
        total = {'CPU': time.process_time() - begun[0], 'wall': time.perf_counter() - begun[1]}
    if status:
        raise SystemExit(status)
    for kind, seconds in total.items():
        share = 100 * spent[kind] / seconds
        print(f'{kind} time: {spent[kind]:.2f} of {seconds:.1f} s writing, {share:.2f} %')


if __name__ == '__main__':
    main()
