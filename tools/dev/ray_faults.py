"""Jobs on Ray while something dies: is every image there once in the end?

``python tools/dev/ray_faults.py driver actor node --times 10`` repeats each fault and prints what
it found. Without names all faults are tried. One start of Ray serves all jobs of a fault, except
where the driver is killed. A stand-in that sleeps takes the model's place, so that minutes suffice.
"""

import argparse
import functools
import http.server
import io
import os
import random
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow as pa

from mmtagclip import cli
from mmtagclip.batch import make_listing, ray_job
from mmtagclip.batch.job import summarise
from mmtagclip.batch.listing import read_listing
from mmtagclip.batch.places import Place

IMAGES, ROWS = 48, 4
LISTING = '_listing.parquet'
POISON = b'poison'


class Sleeper:
    """Stands for a predictor: the size of each file, after a while."""

    batch_size = 1
    result_schema = pa.schema([('size', pa.int64()), ('error', pa.string())])

    def __init__(self, folder: str, names: bytes, key: str | tuple[str, ...]) -> None:
        self.key = (key,) if isinstance(key, str) else key
        Path(folder, f'{os.getpid()}.pid').touch()

    def __call__(self, table: pa.Table) -> pa.Table:
        """Results of a table."""
        contents = table.column('bytes').to_pylist()
        time.sleep(0.05 * len(contents))
        if POISON in contents:
            os._exit(1)
        sizes = pa.array([len(one or b'') for one in contents], pa.int64())
        errors = pa.array([None if one is not None else 'gone' for one in contents], pa.string())
        names = [*self.key, 'size', 'error']
        return pa.table([*(table.column(key) for key in self.key), sizes, errors], names)


def job(folders: list[Path], nodes: int) -> None:
    """One start of a program that does a job after another, in this process."""
    ray = ray_job.import_ray()
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    address, several, second = 'local', None, None
    if nodes > 1:
        from ray.cluster_utils import Cluster

        several = Cluster(initialize_head=True, head_node_args={'num_cpus': 4})
        address, second = several.address, several.add_node(num_cpus=2)
    with ray_job.Cluster(address, nodes, 0) as found:
        for folder in folders:
            place = Place(str(folder / 'out'))
            listing = read_listing(place, LISTING)
            done = ray_job.done_ids(place, listing.kind)
            if several is not None:
                second = second or several.add_node(num_cpus=2)
                several.wait_for_nodes()
                words = several, second, folder, place
                threading.Thread(target=remove, args=words, daemon=True).start()
                second = None
            build = functools.partial(Sleeper, str(folder))
            ray_job.run_passes(found, place, listing, build, b'', ROWS, done, quiet=True)


def remove(cluster: Any, second: Any, folder: Path, place: Place) -> None:
    """Remove a node once both have a worker and there are results."""
    while len(list(folder.glob('*.pid'))) < 2 or not place.files('', '.parquet')[1:]:
        time.sleep(0.2)
    cluster.remove_node(second, allow_graceful=False)
    (folder / 'removed').touch()


def start(folders: list[Path], nodes: int = 1) -> subprocess.Popen:
    """Start the program in a process of its own."""
    words = [sys.executable, __file__, '--nodes', str(nodes), '--job', *map(str, folders)]
    return subprocess.Popen(words, start_new_session=True)


def wait_for(condition, process: subprocess.Popen) -> None:
    """Wait until something is true or the process has ended."""
    while not condition() and process.poll() is None:
        time.sleep(0.2)


def listed(folder: Path, names: list[str]) -> None:
    """List files or addresses."""
    (folder / 'list.txt').write_text('\n'.join(names))
    make_listing(folder / 'list.txt', Place(str(folder / 'out')), name=LISTING)


def with_images(folder: Path, poison: bool = False) -> None:
    """Write images, and list them."""
    names = [f'{number}.jpg' for number in range(IMAGES)]
    for number, name in enumerate(names):
        (folder / name).write_bytes(b'x' * number)
    if poison:
        (folder / '7.jpg').write_bytes(POISON)
    listed(folder, names)


def result(folder: Path) -> str:
    """What is there in the end; raises where a row is there twice."""
    place = Place(str(folder / 'out'))
    return str(summarise(place, read_listing(place, LISTING)))


def is_whole(folder: Path) -> bool:
    """Whether every image has one row."""
    return result(folder) == f'{IMAGES} images, 0 errors, 0 missing'


def driver(folders: list[Path]) -> list[bool]:
    """The driver is killed during each job, and started again."""
    killed = []
    for folder in folders:
        with_images(folder)
    for folder in folders:
        process = start(folders)
        checkpoint = folder / 'out' / ray_job.CHECKPOINT
        wait_for(lambda: checkpoint.exists() and any(checkpoint.iterdir()), process)  # noqa: B023
        at_work = process.poll() is None
        process.kill()
        process.wait()
        before = len(ray_job.done_ids(Place(str(folder / 'out')), 'images'))
        killed.append(at_work and before < IMAGES)
    assert start(folders).wait() == 0
    return [one and is_whole(folder) for one, folder in zip(killed, folders, strict=True)]


def actor(folders: list[Path]) -> list[bool]:
    """A worker is killed during each job."""
    for folder in folders:
        with_images(folder)
    process = start(folders)
    for folder in folders:
        wait_for(lambda: any(folder.glob('*.pid')), process)  # noqa: B023
        time.sleep(random.random())
        pids = list(folder.glob('*.pid'))
        os.kill(int(pids[0].stem), signal.SIGKILL)
    ended = process.wait() == 0
    return [
        ended and len(list(folder.glob('*.pid'))) == 2 and is_whole(folder) for folder in folders
    ]


def node(folders: list[Path]) -> list[bool]:
    """One of two nodes is removed during each job."""
    for folder in folders:
        with_images(folder)
    ended = start(folders, nodes=2).wait() == 0
    return [ended and (folder / 'removed').exists() and is_whole(folder) for folder in folders]


def poison(folders: list[Path]) -> list[bool]:
    """An image kills every process that reads it."""
    for folder in folders:
        with_images(folder, poison=True)
    ended = start(folders).wait() == 0
    one_missing = f'{IMAGES - 1} images, 0 errors, 1 missing'
    return [ended and result(folder) == one_missing for folder in folders]


def tar(folders: list[Path]) -> list[bool]:
    """A tar ends early."""
    for folder in folders:
        for number in range(4):
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode='w') as packed:
                for image in range(3):
                    member = tarfile.TarInfo(f'{image}.jpg')
                    member.size = 600
                    packed.addfile(member, io.BytesIO(b'x' * 600))
            content = buffer.getvalue()
            end = random.randrange(1, 3 * 1536) if number == 2 else len(content)
            (folder / f'{number}.tar').write_bytes(content[:end])
        listed(folder, [f'{number}.tar' for number in range(4)])
    ended = start(folders).wait() == 0
    said = [result(folder) for folder in folders]
    return [
        ended and one.endswith('images, 1 errors, 0 missing') and int(one.split()[0]) >= 9
        for one in said
    ]


def store(folders: list[Path]) -> list[bool]:
    """A store answers one of ten requests with 503."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            busy = random.random() < 0.1
            content = b'' if busy else b'x'
            self.send_response(503 if busy else 200)
            self.send_header('Content-Length', str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        names = [f'http://127.0.0.1:{server.server_port}/{number}.jpg' for number in range(IMAGES)]
        for folder in folders:
            listed(folder, names)
        ended = start(folders).wait() == 0
        server.shutdown()
    return [ended and is_whole(folder) for folder in folders]


def options(folders: list[Path]) -> list[bool]:
    """An output of other options, and one that holds other things, are refused."""
    return [refuses_others(folder) for folder in folders]


def refuses_others(folder: Path) -> bool:
    """Whether an output of a job is taken by the same job alone."""
    with_images(folder)
    (folder / 'mine').mkdir()
    (folder / 'mine' / 'thing').touch()
    (folder / 'out' / LISTING).unlink()
    words = [
        'tag',
        str(folder / 'list.txt'),
        '--model',
        'tagclip_demo',
        '--engine',
        'ray',
        '--quiet',
    ]
    ray_job.run_passes, kept = lambda *_, **__: (0, ''), ray_job.run_passes
    ray_job.Cluster.__enter__ = lambda self: self  # type: ignore[method-assign]
    ray_job.Cluster.__exit__ = lambda self, *_: None  # type: ignore[method-assign]
    codes = [
        cli.main([*words, '--out', str(folder / out), *more])
        for out, more in (('mine', []), ('out', []), ('out', ['--top', '1']))
    ]
    (folder / 'out' / '_manifest.json').unlink()  # then it is a folder of other things
    (folder / 'out' / 'a.parquet').touch()
    codes.append(cli.main([*words, '--out', str(folder / 'out')]))
    ray_job.run_passes = kept
    return codes == [2, 1, 2, 2]


FAULTS = {one.__name__: one for one in (driver, actor, node, poison, tar, store, options)}


def main() -> int:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('faults', nargs='*', choices=[*FAULTS, []], help='which')
    parser.add_argument('--times', type=int, default=10)
    parser.add_argument('--job', type=Path, nargs='+', help=argparse.SUPPRESS)
    parser.add_argument('--nodes', type=int, default=1, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job is not None:
        job(args.job, args.nodes)
        return 0
    failed = 0
    for name in args.faults or FAULTS:
        with tempfile.TemporaryDirectory() as scratch:
            folders = [Path(scratch, str(number)) for number in range(args.times)]
            for folder in folders:
                folder.mkdir()
            good = sum(FAULTS[name](folders))
        failed += good < args.times
        print(f'{name}: {good} of {args.times}', flush=True)
    return int(failed > 0)


if __name__ == '__main__':
    sys.exit(main())
