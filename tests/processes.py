"""Run the tools as a user does, or quicker: in the tests' own process or in forks of it."""

import io
import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import traceback
import warnings
from collections import OrderedDict
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from multiprocessing.connection import wait
from pathlib import Path
from unittest import mock

import pytest
import torch
from mmengine.utils import ManagerMixin

from mmtagclip.frameworks import UNUSED_LINE, UNUSED_WARNING

ROOT = Path(__file__).parent.parent
# For tests of minutes that repeat with more processes or images what a faster test shows.
slow = pytest.mark.skipif(
    not os.environ.get('MMTAGCLIP_SLOW'), reason='takes minutes: MMTAGCLIP_SLOW=1 runs it'
)


def run(*command, timeout=300, quiet=True, **environment):
    """Run a command with this interpreter's programs first on the path.

    Args:
        *command: The command, made strings.
        timeout: Seconds until it is ended.
        quiet: Whether it must not say what the frameworks say when they are imported.
        **environment: Environment variables.

    Returns:
        The finished process.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ['PATH']])
    process = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, 'PATH': path, **environment},
    )
    return said_nothing(process) if quiet else process


def run_script(script, *arguments, cwd='.', **environment):
    """Run a Python script in this process, which has imported everything already.

    The script finds its arguments, its folder on the module path, and no logger, visualizer or
    default scope that was made before; what it sets of these is gone afterwards. What shows
    only in a process of its own (imports, exit handlers, several processes) needs :func:`run`.

    Args:
        script: The file.
        *arguments: Its arguments, made strings.
        cwd: The working directory.
        **environment: Environment variables.

    Returns:
        What :func:`run` returns; an exception is a traceback in ``stderr`` and exit status 1.
    """
    argv = [str(script), *map(str, arguments)]
    out, err, status = io.StringIO(), io.StringIO(), 0

    def warn(message, category, filename, lineno, file=None, line=None):
        err.write(warnings.formatwarning(message, category, filename, lineno, line))

    with (
        chdir(cwd),
        mock.patch.dict(os.environ, environment),
        mock.patch.object(sys, 'argv', argv),
        mock.patch.object(sys, 'path', [str(Path(script).parent), *sys.path]),
        redirect_stdout(out),
        redirect_stderr(err),
        warnings.catch_warnings(),
        mock.patch.object(warnings, 'showwarning', warn),
        fresh_instances(),
        torch.random.fork_rng(devices=[]),
    ):
        try:
            runpy.run_path(str(script), run_name='__main__')
        except SystemExit as end:
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
            status = 1 if isinstance(end.code, str) else end.code or 0
        except Exception:
            traceback.print_exc()
            status = 1
    return subprocess.CompletedProcess(argv, status, out.getvalue(), err.getvalue())


def run_ranks(script, *arguments, processes=2, timeout=300):
    """Run a Python script in several processes, as tools/dist_*.sh do, which are forks of this one.

    They have imported everything already, which is most of what torchrun's take. As with torchrun,
    the others are ended when one fails.

    Args:
        script: The file, which has ``--launcher``.
        *arguments: Its arguments, made strings.
        processes: How many.
        timeout: Seconds between the ends of two of them.

    Returns:
        What :func:`run` returns: the outputs of all, or those of the process that failed.
    """
    places = {'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': free_port(), 'WORLD_SIZE': str(processes)}

    def work(rank):
        names = {**places, 'RANK': str(rank), 'LOCAL_RANK': str(rank)}
        return run_script(script, *arguments, '--launcher', 'pytorch', **names)

    ended = forked(work, processes, timeout)
    out, err = (''.join(getattr(one, name) for one in ended) for name in ('stdout', 'stderr'))
    return subprocess.CompletedProcess(ended[-1].args, ended[-1].returncode, out, err)


def run_fresh(script, *arguments, timeout=300, quiet=True, **environment):
    """Run a Python script in a fork of this process that has not imported us and the frameworks.

    So an import that the script lacks is seen. Torch, open_clip and the like are there already.

    Args:
        script: The file.
        *arguments: Its arguments, made strings.
        timeout: Seconds until it is ended.
        quiet: As :func:`run` has it.
        **environment: Environment variables.

    Returns:
        What :func:`run` returns.
    """

    def work(_):
        for name in list(sys.modules):
            if name.partition('.')[0] in {'mmtagclip', 'mmengine', 'mmcv', 'mmseg', 'mmpretrain'}:
                del sys.modules[name]
        return run_script(script, *arguments, **environment)

    (process,) = forked(work, 1, timeout)
    return said_nothing(process) if quiet else process


def forked(work, processes, timeout):
    """What forks of this process return, in the order in which they end, up to one that fails.

    Args:
        work: Called with the number of the fork; it returns what :func:`run` returns.
        processes: How many.
        timeout: Seconds between the ends of two of them.
    """
    context = multiprocessing.get_context('fork')
    workers = {}
    for number in range(processes):
        end, other = context.Pipe(duplex=False)
        workers[end] = context.Process(
            target=lambda n, end: end.send(work(n)), args=(number, other)
        )
        workers[end].start()
        other.close()
    ended = []
    try:
        while len(ended) < processes:
            ready = wait([end for end in workers if not end.closed], timeout)
            assert ready, f'{processes - len(ended)} processes have not ended'
            for end in ready:
                ended.append(end.recv())
                end.close()
                if ended[-1].returncode:
                    return ended
    finally:
        for worker in workers.values():
            worker.kill()
            worker.join()
    return ended


def said_nothing(process):
    """Check that a process does not say what the frameworks say when they are imported."""
    for line in (UNUSED_LINE, UNUSED_WARNING):
        assert line not in process.stdout + process.stderr, process.args
    return process


@contextmanager
def fresh_instances():
    """Set mmengine's global objects aside: loggers, visualizers, the default scope and others."""
    kinds = [ManagerMixin]
    for kind in kinds:  # which grows
        kinds += kind.__subclasses__()
    kept = {kind: kind._instance_dict for kind in kinds}
    for kind in kinds:
        kind._instance_dict = OrderedDict()
    try:
        yield
    finally:
        for kind, instances in kept.items():
            kind._instance_dict = instances


def free_port():
    """A port for torchrun, as PORT wants it."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        return str(free.getsockname()[1])
