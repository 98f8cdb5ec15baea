"""Jobs on Ray while something dies: is every image there once in the end?

``python tools/dev/ray_faults.py driver actor node --times 10`` repeats each fault and prints what
it found. Without names all faults are tried. A stand-in that sleeps takes the model's place, so
that minutes suffice.
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


def job(folder: Path, nodes: int) -> None:
    """One start of a job, in this process."""
    ray = ray_job.import_ray()
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    place = Place(str(folder / 'out'))
    listing = read_listing(place, LISTING)
    done = ray_job.done_ids(place, listing.kind)
    address = 'local'
    if nodes > 1:
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args={'num_cpus': 4})
        second = cluster.add_node(num_cpus=2)
        cluster.wait_for_nodes()
        address = cluster.address

        def remove() -> None:
            while len(list(folder.glob('*.pid'))) < 2 or not place.files('', '.parquet')[1:]:
                time.sleep(0.2)
            cluster.remove_node(second, allow_graceful=False)
            (folder / 'removed').touch()

        threading.Thread(target=remove, daemon=True).start()
    with ray_job.Cluster(address, nodes, 0) as found:
        build = functools.partial(Sleeper, str(folder))
        ray_job.run_passes(found, place, listing, build, b'', ROWS, done, quiet=True)
    print(summarise(place, listing))


def start(folder: Path, nodes: int = 1) -> subprocess.Popen:
    """One start of a job, in a process of its own."""
    words = [sys.executable, __file__, '--job', str(folder), '--nodes', str(nodes)]
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


def driver(folder: Path) -> bool:
    """The driver is killed, and started again."""
    with_images(folder)
    process = start(folder)
    checkpoint = folder / 'out' / ray_job.CHECKPOINT
    wait_for(lambda: checkpoint.exists() and any(checkpoint.iterdir()), process)
    killed = process.poll() is None
    process.kill()
    process.wait()
    before = len(ray_job.done_ids(Place(str(folder / 'out')), 'images'))
    assert start(folder).wait() == 0
    return killed and before < IMAGES and result(folder) == f'{IMAGES} images, 0 errors, 0 missing'


def actor(folder: Path) -> bool:
    """A worker is killed."""
    with_images(folder)
    process = start(folder)
    wait_for(lambda: any(folder.glob('*.pid')), process)
    time.sleep(random.random())
    pids = list(folder.glob('*.pid'))
    os.kill(int(pids[0].stem), signal.SIGKILL)
    ended = process.wait() == 0
    again = len(list(folder.glob('*.pid'))) == 2
    return ended and again and result(folder) == f'{IMAGES} images, 0 errors, 0 missing'


def node(folder: Path) -> bool:
    """One of two nodes is removed."""
    with_images(folder)
    ended = start(folder, nodes=2).wait() == 0
    removed = (folder / 'removed').exists()
    return ended and removed and result(folder) == f'{IMAGES} images, 0 errors, 0 missing'


def poison(folder: Path) -> bool:
    """An image kills every process that reads it."""
    with_images(folder, poison=True)
    ended = start(folder).wait() == 0
    return ended and result(folder) == f'{IMAGES - 1} images, 0 errors, 1 missing'


def tar(folder: Path) -> bool:
    """A tar ends early."""
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
    ended = start(folder).wait() == 0
    said = result(folder)
    return ended and said.endswith('images, 1 errors, 0 missing') and int(said.split()[0]) >= 9


def store(folder: Path) -> bool:
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
        listed(folder, [f'http://127.0.0.1:{server.server_port}/{n}.jpg' for n in range(IMAGES)])
        ended = start(folder).wait() == 0
        server.shutdown()
    return ended and result(folder) == f'{IMAGES} images, 0 errors, 0 missing'


def options(folder: Path) -> bool:
    """An output of other options, and one that holds other things, are refused."""
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
    parser.add_argument('--job', type=Path, help=argparse.SUPPRESS)
    parser.add_argument('--nodes', type=int, default=1, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job is not None:
        job(args.job, args.nodes)
        return 0
    failed = 0
    for name in args.faults or FAULTS:
        good = 0
        for _ in range(args.times):
            with tempfile.TemporaryDirectory() as folder:
                good += FAULTS[name](Path(folder))
        failed += good < args.times
        print(f'{name}: {good} of {args.times}', flush=True)
    return int(failed > 0)


if __name__ == '__main__':
    sys.exit(main())
