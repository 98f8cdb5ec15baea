"""Put small faults into the code, one at a time, and count how many the tests see.

Each fault goes into a copy of the tree, never into the tree itself, and only the tests that mirror
its file run against it. One process imports the large libraries once; for each fault it forks a
child that imports the package from the copy, so that a fault costs little more than its tests.
They run once without a fault, to record which of them reach which line. Only those that reach the
statement of a fault run, the quickest first, and the first that fails ends the run. The others run
after them if the statement also runs outside of tests: when the module is imported, in a fixture.
Needs a system that can fork (Linux, macOS).

A fault that no test sees needs a test, or it changes nothing that anyone can observe.
"""

import argparse
import ast
import contextlib
import difflib
import importlib
import importlib.util
import io
import itertools
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tokenize
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import coverage
import pytest
from tqdm import tqdm

ROOT = Path(__file__).parent.parent.parent
# Modules that are imported once, before the first fork; then those of the package are forgotten.
WARM = 'hypothesis,matplotlib.pyplot,mmtagclip.frameworks.segmentation,open_clip,pytest,timm'
# Files and folders whose tests are not where the tree is mirrored.
ELSEWHERE = {
    'mmtagclip/__init__.py': 'tests/test_lazy.py',
    'mmtagclip/__main__.py': 'tests/test_start.py',
    'mmtagclip/apis/banks.py': 'tests/test_cli_bank.py',
    'mmtagclip/apis/region_run.py': 'tests/test_cli_regions.py',
    'mmtagclip/devices.py': 'tests/test_cli.py',
    'mmtagclip/extras.py': 'tests/test_cli.py',
    'mmtagclip/label_config.py': 'tests/test_label_studio.py',
    'mmtagclip/version.py': 'tests/test_packaging.py',
    'mmtagclip/vocabularies/': 'tests/clip/test_vocabulary.py',
}
# Tests that look into every module of the package; the second only at the names of its folders.
EVERYWHERE = ('tests/test_defaults.py', 'tests/test_lazy.py')
OPERATORS = {
    '>': '>=',
    '>=': '>',
    '<': '<=',
    '<=': '<',
    '==': '!=',
    '!=': '==',
    '+': '-',
    '-': '+',
    '*': '/',
    '/': '*',
    '//': '/',
    '+=': '-=',
    '-=': '+=',
    '*=': '/=',
    '/=': '*=',
    'and': 'or',
    'or': 'and',
}
SUFFIXES = ('.py', '.yml', '.txt')
SYMBOLS = {
    ast.Gt: '>',
    ast.GtE: '>=',
    ast.Lt: '<',
    ast.LtE: '<=',
    ast.Eq: '==',
    ast.NotEq: '!=',
    ast.Add: '+',
    ast.Sub: '-',
    ast.Mult: '*',
    ast.Div: '/',
    ast.FloorDiv: '//',
    ast.And: 'and',
    ast.Or: 'or',
}
# Whether the tests of a fault failed, as pytest says it.
PASSED, NO_TESTS, TIMEOUT = 0, 5, -1
UNSEEN = {PASSED: 'NOT SEEN', NO_TESTS: 'NOT REACHED'}


@dataclass(frozen=True, order=True)
class Fault:
    """One change of one file.

    Attributes:
        path: Of the file, relative to the tree.
        start, end: The characters that are replaced.
        new: What replaces them.
        line: From 1.
        what: The change, for the reader.
    """

    path: str
    start: int
    end: int
    new: str
    line: int
    what: str

    def apply(self, text: str) -> str:
        """The file's text with the fault."""
        return text[: self.start] + self.new + text[self.end :]


def faults(path: str, text: str) -> list[Fault]:
    """All faults that can be put into a file, in order; a few change nothing, see :func:`changes`.

    Args:
        path: Its name decides what it is: Python, numbers in YAML, or a list in a text file.
        text: Its content.
    """
    suffix = Path(path).suffix
    found = {'.py': _python, '.yml': _numbers, '.txt': _list}[suffix](text)
    return sorted(
        Fault(
            path,
            start,
            end,
            new,
            text.count('\n', 0, start) + 1,
            f'{_short(text[start:end])} -> {_short(new)}',
        )
        for start, end, new in set(found)
    )


def changes(fault: Fault, text: str) -> bool:
    """Whether a fault makes another file of the text, which is still Python if it was."""
    if not fault.path.endswith('.py'):
        return True
    try:
        return ast.dump(ast.parse(fault.apply(text))) != ast.dump(ast.parse(text))
    except SyntaxError:
        return False


def tests_of(path: str, tree: Path) -> list[str]:
    """Tests that mirror a file: its own first, the others of that folder, and those of its name.

    Args:
        path: Relative to the tree.
        tree: The tree.

    Raises:
        FileNotFoundError: There are none.
    """
    parts = Path(path).with_suffix('').parts
    # A command's tests are beside those of the function that it calls.
    namesakes = sorted(
        str(file.relative_to(tree)) for file in (tree / 'tests').rglob(f'test_{parts[-1]}.py')
    )
    everywhere = []
    if parts[0] == 'mmtagclip':
        parts = parts[1:]
        names = EVERYWHERE if parts[-1] == '__init__' else EVERYWHERE[:1]
        everywhere = [name for name in names if (tree / name).exists()]
    for start, tests in ELSEWHERE.items():
        if path.startswith(start):
            return [tests, *everywhere]
    while parts:
        folder = Path('tests', *parts[:-1])
        own = folder / f'test_{parts[-1]}.py'
        others = sorted(file.relative_to(tree) for file in (tree / folder).glob('test_*.py'))
        if folder == Path('tests'):  # those beside it are about all of the package
            others = [
                file for file in others if file == own or file.stem.startswith(f'{own.stem}_')
            ]
        if others:
            own_first = sorted(others, key=lambda file: file != own)
            return list(dict.fromkeys([*map(str, own_first), *namesakes, *everywhere]))
        parts = parts[:-1]
    raise FileNotFoundError(f'no tests mirror {path}: name some with --tests')


class Copy:
    """A copy of a tree in which faults are tried.

    Args:
        tree: The tree; what git ignores is not copied.
        folder: Where the copy is made.
    """

    def __init__(self, tree: Path, folder: Path) -> None:
        self.root = folder
        for name in _git(tree, 'ls-files', '-z', '-co', '--exclude-standard').split('\0'):
            if name and (tree / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(tree / name, folder / name)

    def read(self, path: str) -> str:
        """Text of a file of the copy."""
        return (self.root / path).read_text(encoding='utf-8')

    @contextlib.contextmanager
    def with_fault(self, fault: Fault) -> Iterator[None]:
        """Put a fault into the copy for a while."""
        path = self.root / fault.path
        text = self.read(fault.path)
        path.write_text(fault.apply(text), encoding='utf-8')
        # Of the same second and length as the sound one, its bytecode would be taken for it.
        Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)
        try:
            yield
        finally:
            path.write_text(text, encoding='utf-8')

    def run(self, tests: Sequence[str], plugin: Any, seconds: float) -> int:
        """Run tests against the copy in a child of this process.

        Args:
            tests: Files, relative to the tree.
            plugin: Of pytest.
            seconds: CPU time after which the child is ended, or after ten times as long.

        Returns:
            pytest's exit status, or :data:`TIMEOUT`.
        """
        child = os.fork()
        if child == 0:
            resource.setrlimit(resource.RLIMIT_CPU, (round(seconds), resource.RLIM_INFINITY))
            _child(self.root, tests, plugin)
        end = time.monotonic() + 10 * seconds
        while time.monotonic() < end:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                code = os.waitstatus_to_exitcode(status)
                return TIMEOUT if code == -signal.SIGXCPU else code
            time.sleep(0.02)
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return TIMEOUT


@dataclass
class Plan:
    """What some tests do without a fault.

    Attributes:
        seconds: CPU time of each test, by its name.
        reached: The tests that reach a line in their calls, by file and line; among them the
            empty name if it also runs outside of calls.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    reached: dict[str, dict[int, list[str]]] = field(default_factory=dict)

    def reaching(self, path: str, lines: Sequence[int]) -> set[str]:
        """The tests that reach any of some lines, see :attr:`reached`."""
        known = self.reached.get(path, {})
        return {test for line in lines for test in known.get(line, [])}


class Recorder:
    """A plugin of pytest that writes a :class:`Plan`.

    Args:
        root: The tree; lines of its package are recorded.
        path: The file that is written.
        slow: A test is ended after this many seconds of CPU time, since it will be left out.
    """

    def __init__(self, root: Path, path: Path, slow: float) -> None:
        self.root = root
        self.path = path
        self.slow = slow
        self.seconds: dict[str, float] = {}
        self.coverage = coverage.Coverage(
            data_file=None, config_file=False, include=[f'{root}/mmtagclip/*']
        )

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item):
        """Called by pytest for each test: a wrapper around its call, without fixtures."""
        self.coverage.switch_context(item.nodeid)
        start = sum(os.times()[:4])
        ended = []

        def end(*_):
            ended.append(True)
            pytest.skip('slow')

        signal.signal(signal.SIGPROF, end)
        signal.setitimer(signal.ITIMER_PROF, self.slow + 0.1)
        try:
            return (yield)
        except BaseException:
            if ended:  # what the end of a test that is slow becomes, such as an error of torch's
                pytest.skip('slow')
            raise
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            self.seconds[item.nodeid] = sum(os.times()[:4]) - start
            self.coverage.switch_context('')

    def pytest_sessionfinish(self, session):
        """Called by pytest after the last test."""
        self.coverage.stop()
        data = self.coverage.get_data()
        reached = {
            str(Path(file).relative_to(self.root)): data.contexts_by_lineno(file)
            for file in data.measured_files()
        }
        self.path.write_text(json.dumps([self.seconds, reached]), encoding='utf-8')


class Order:
    """A plugin of pytest that runs the tests which may see a fault.

    Args:
        plan: What the tests do without a fault.
        fault: The fault.
        text: The file without it.
        slow: Tests that take more seconds are left out.

    Attributes:
        seconds: CPU time that is far more than they need.
    """

    def __init__(self, plan: Plan, fault: Fault, text: str, slow: float) -> None:
        self.known = plan.seconds
        self.reaching = plan.reaching(fault.path, statement(fault, text))
        self.all = '' in self.reaching or not fault.path.endswith('.py')
        self.slow = slow
        self.seconds = 30 + 3 * sum(one for name, one in self.known.items() if self._runs(name))

    def _runs(self, name: str) -> bool:
        # A test that is not known was made by the fault.
        known = self.known.get(name)
        return known is None or (known <= self.slow and (self.all or name in self.reaching))

    def pytest_collection_modifyitems(self, items):
        """Called by pytest with the tests that it has found."""
        items[:] = sorted(
            (item for item in items if self._runs(item.nodeid)),
            key=lambda one: (one.nodeid not in self.reaching, self.known.get(one.nodeid, 0)),
        )


def statement(fault: Fault, text: str) -> Sequence[int]:
    """Lines of the statement that a fault is in; of one that contains others, those before them."""
    if not fault.path.endswith('.py'):
        return [fault.line]
    found = range(fault.line, fault.line + 1)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.stmt) and node.lineno <= fault.line:
            inner = getattr(node, 'body', None)
            last = max(node.lineno, inner[0].lineno - 1) if inner else node.end_lineno
            if fault.line <= last:
                found = range(node.lineno, last + 1)
    return found


def main() -> None:
    """Parse the command line and print the table."""
    args = _arguments()
    tree = Path(args.tree).resolve()
    with tempfile.TemporaryDirectory(prefix='mutants-') as folder:
        copy = Copy(tree, Path(folder) / 'tree')
        files = _files(copy.root, args.files) if args.files else _changed(tree, args.since)
        folders = defaultdict(list)
        for path in files:
            folders[folder_of(path)] += faults(path, copy.read(path))
        shuffled = mixed(folders, args.seed)
        real = (fault for fault in shuffled if changes(fault, copy.read(fault.path)))
        chosen = sorted(itertools.islice(real, args.count))
        print(f'{len(shuffled)} faults in {len(files)} files; {len(chosen)} are tried', flush=True)
        _warm(copy.root, args.warm)
        verdicts = list(_try(copy, chosen, args))
    for name in sorted(folders) if len(folders) > 1 else []:
        mine = [seen for fault, seen in verdicts if folder_of(fault.path) == name]
        print(f'{sum(mine):4} of {len(mine):3} seen  {name}')
    seen = sum(seen for _, seen in verdicts)
    share = f' ({100 * seen / len(chosen):.0f} %)' if chosen else ''
    print(f'{seen} of {len(chosen)} seen{share}')


def folder_of(path: str) -> str:
    """The folder to which a file's faults are counted: a part of the package, or its top."""
    return '/'.join(Path(path).parent.parts[:2])


def mixed(folders: dict[str, list[Fault]], seed: int) -> list[Fault]:
    """All faults in an order that the seed decides: one of each folder in turn.

    Args:
        folders: The faults, by folder.
        seed: Another one gives another order.
    """
    turns = []
    for name in sorted(folders):
        mine = sorted(folders[name])
        random.Random(f'{seed} {name}').shuffle(mine)
        turns += [(turn, name, fault) for turn, fault in enumerate(mine)]
    return [fault for *_, fault in sorted(turns)]


def _try(
    copy: Copy, chosen: Sequence[Fault], args: argparse.Namespace
) -> Iterator[tuple[Fault, bool]]:
    """Each fault and whether it is seen, with a line of the table for each."""
    plans: dict[frozenset[str], Plan] = {}
    for fault in chosen:
        own = [] if args.only_tests else tests_of(fault.path, copy.root)
        tests = [*own, *(test for test in args.tests if test not in own)]
        if frozenset(tests) not in plans:
            plans[frozenset(tests)] = _without_fault(copy, tests, args.slow)
        plan = plans[frozenset(tests)]
        start = time.monotonic()
        order = Order(plan, fault, copy.read(fault.path), args.slow)
        with copy.with_fault(fault):
            status = copy.run(tests, order, order.seconds)
        verdict = {TIMEOUT: 'seen (timeout)', **UNSEEN}.get(status, 'seen')
        print(
            f'{verdict:<14} {time.monotonic() - start:5.1f} s  {fault.path}:{fault.line}  '
            f'{fault.what}',
            flush=True,
        )
        yield fault, status not in UNSEEN


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        'files', nargs='*', help='files or folders to put faults into: *.py, *.yml, *.txt'
    )
    parser.add_argument('--since', metavar='REV', help='files that changed since this revision')
    parser.add_argument(
        '--count',
        type=int,
        default=60,
        help='faults to try, equally many of each folder (default: %(default)s)',
    )
    parser.add_argument('--seed', type=int, default=0, help='which ones (default: %(default)s)')
    parser.add_argument(
        '--tests', nargs='+', default=[], metavar='FILE', help='tests to run besides the mirrored'
    )
    parser.add_argument(
        '--only-tests', action='store_true', help='run no tests but those of --tests'
    )
    parser.add_argument(
        '--slow',
        type=float,
        default=2.0,
        metavar='S',
        help='leave out tests that take more seconds than this (default: %(default)s)',
    )
    parser.add_argument(
        '--warm',
        default=WARM,
        metavar='MODULES',
        help='modules to import once (default: %(default)s)',
    )
    parser.add_argument('--tree', default=ROOT, help='the tree (default: this one)')
    args = parser.parse_args()
    if bool(args.files) == bool(args.since):
        parser.error('name either files or --since')
    if args.only_tests and not args.tests:
        parser.error('--only-tests needs --tests')
    return args


def _files(root: Path, names: Sequence[str]) -> list[str]:
    """The files that are named, and those below the folders that are named, each once."""
    found: dict[str, None] = {}
    for name in names:
        path = root / name
        inside = sorted(file for file in path.rglob('*') if file.suffix in SUFFIXES)
        for file in inside if path.is_dir() else [path]:
            found[str(file.relative_to(root))] = None
    return list(found)


def _changed(tree: Path, revision: str) -> list[str]:
    """Files of the package, its configs and its tools that changed since a revision."""
    names = _git(tree, 'diff', '--name-only', '--diff-filter=d', revision).splitlines()
    return [
        name
        for name in names
        if name.startswith(('mmtagclip/', 'configs/', 'tools/'))
        and name.endswith(SUFFIXES)
        and not name.startswith('tools/dev/')
    ]


def _without_fault(copy: Copy, tests: Sequence[str], slow: float) -> Plan:
    """What tests do without a fault.

    Raises:
        SystemExit: They fail, or there are none.
    """
    record = copy.root.parent / 'plan.json'
    status = copy.run(tests, Recorder(copy.root, record, slow), 3600)
    if status != PASSED:
        problem = 'there are none' if status == NO_TESTS else 'they fail'
        raise SystemExit(f'without any fault, {problem}: {" ".join(tests)}')
    seconds, reached = json.loads(record.read_text(encoding='utf-8'))
    lines = {
        path: {int(line): names for line, names in one.items()} for path, one in reached.items()
    }
    return Plan(seconds, lines)


def _child(root: Path, tests: Sequence[str], plugin: Any) -> None:
    """Run pytest on the copy and end this process."""
    status = 1
    try:
        os.setsid()
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        os.chdir(root)
        sys.path.insert(0, str(root))
        os.environ['PYTHONPATH'] = str(root)
        os.environ['PYTHONDONTWRITEBYTECODE'] = '1'
        sys.dont_write_bytecode = isinstance(plugin, Order)
        if isinstance(plugin, Recorder):  # before pytest imports conftest.py
            # Its thread and the recording of lines can wait for one another forever.
            tqdm.monitor_interval = 0
            plugin.coverage.start()
        status = int(pytest.main(['-x', '-q', '-p', 'no:cacheprovider', *tests], plugins=[plugin]))
    finally:
        os._exit(status)


def _warm(root: Path, modules: str) -> None:
    """Import modules that are there, without what they print, and forget the package."""
    sys.path.insert(0, str(root))
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        for module in modules.split(','):
            with contextlib.suppress(ImportError):
                importlib.import_module(module)
    sys.path.remove(str(root))
    for name in list(sys.modules):
        if name.partition('.')[0] == 'mmtagclip':
            del sys.modules[name]


def _git(tree: Path, *arguments: str) -> str:
    return subprocess.run(
        ['git', '-C', str(tree), *arguments], check=True, capture_output=True, text=True
    ).stdout


def _short(text: str) -> str:
    text = ' '.join(text.split()) or '(nothing)'
    return text if len(text) <= 40 else f'{text[:37]}...'


Change = tuple[int, int, str]


def _list(text: str) -> Iterator[Change]:
    """A line mistyped, left out, or changed with the next."""
    lines = list(re.finditer(r'^(?!#)\S.*$', text, re.MULTILINE))
    for line, after in zip(lines, [*lines[1:], None], strict=True):
        word = re.search(r'\w+', line.group())
        if word:
            typo = line.start() + word.end()
            yield typo, typo, text[typo - 1]
        yield line.start(), min(line.end() + 1, len(text)), ''
        if after and after.group() != line.group():
            between = text[line.end() : after.start()]
            yield line.start(), after.end(), after.group() + between + line.group()


def _numbers(text: str) -> Iterator[Change]:
    """Every number that stands by itself."""
    for match in re.finditer(r'(?<![\w.#-])\d+(\.\d+)?(?![\w.-])', text):
        value = float(match.group()) if '.' in match.group() else int(match.group())
        for new in _other_numbers(value):
            yield match.start(), match.end(), new


def _other_numbers(value: float) -> list[str]:
    if isinstance(value, float):
        return [f'{value * 1.1:.6g}' if value else '1.0']
    return [str(value + 1)] if value < 2 else [str(value + 1), str(value - 1)]


def _python(text: str) -> Iterator[Change]:
    """Faults of a program; none in annotations, decorators, f-strings and ``__all__``."""
    tree = ast.parse(text)
    place = _places(text)
    tokens = [
        (place(token.start[0], None, token.start[1]), token.string)
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.string in OPERATORS or token.string == 'not'
    ]

    def span(node: ast.AST) -> tuple[int, int]:
        return (
            place(node.lineno, node.col_offset),  # type: ignore[attr-defined]
            place(node.end_lineno, node.end_col_offset),  # type: ignore[attr-defined]
        )

    def operator(symbol: str, left: ast.AST, right: ast.AST) -> Iterator[Change]:
        low, high = span(left)[1], span(right)[0]
        for at, string in tokens:
            if low <= at < high and string == symbol:
                yield at, at + len(symbol), OPERATORS[symbol]
                return

    nodes = list(_walk(tree))
    words = sorted({node.value for node in nodes if _is_word(node)})
    for node in nodes:
        for one in _set_words(node):
            # The most similar word is often another value of the same option.
            others = [word for word in words if word != one.value]
            near = difflib.get_close_matches(one.value, others, n=1, cutoff=0)
            yield *span(one), repr(near[0] if near else one.value + one.value[-1])
        if isinstance(node, ast.Compare):
            values = [node.left, *node.comparators]
            for op, left, right in zip(node.ops, values, values[1:], strict=False):
                if type(op) in SYMBOLS:
                    yield from operator(SYMBOLS[type(op)], left, right)
        elif isinstance(node, ast.BinOp) and type(node.op) in SYMBOLS:
            yield from operator(SYMBOLS[type(node.op)], node.left, node.right)
        elif isinstance(node, ast.AugAssign) and type(node.op) in SYMBOLS:
            symbol = f'{SYMBOLS[type(node.op)]}='
            if symbol in OPERATORS:
                yield from operator(symbol, node.target, node.value)
        elif isinstance(node, ast.BoolOp):
            yield from operator(SYMBOLS[type(node.op)], node.values[0], node.values[1])
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            yield span(node)[0], span(node.operand)[0], ''
        elif isinstance(node, ast.Slice) and node.lower is node.upper is None and node.step:
            if ast.unparse(node.step) == '-1':
                yield *span(node), ':'
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            yield *span(node), 'pass'
        elif (
            isinstance(node, ast.Return)
            and isinstance(node.value, ast.Tuple)
            and len(node.value.elts) > 1
        ):
            first, second = (span(one) for one in node.value.elts[:2])
            swapped = text[slice(*second)] + text[first[1] : second[0]] + text[slice(*first)]
            yield first[0], second[1], swapped
        elif isinstance(node, ast.Dict | ast.List | ast.Tuple | ast.Set):
            keys = node.keys if isinstance(node, ast.Dict) else []
            elements = node.values if isinstance(node, ast.Dict) else node.elts
            for one in [*keys, *elements]:
                if isinstance(one, ast.Constant) and isinstance(one.value, str) and one.value:
                    yield *span(one), repr(one.value + one.value[-1])
        elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
            yield *span(node), str(not node.value)
        elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            for new in ['0'] if node.value == 1 else _other_numbers(node.value):
                yield *span(node), new


def _is_word(node: Any) -> bool:
    """Whether a node is a string for the program: one with a space is a text for people."""
    return (
        isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and len(node.value.split()) == 1
    )


def _set_words(node: ast.AST) -> list[Any]:
    """The words that a node assigns, gives to a keyword or has as defaults."""
    values: list[Any] = []
    if isinstance(node, ast.arguments):
        values = [*node.defaults, *node.kw_defaults]
    elif isinstance(node, ast.keyword | ast.Assign | ast.AnnAssign):
        values = [node.value] if getattr(node, 'arg', None) != 'metavar' else []
    return [value for value in values if _is_word(value)]


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """Nodes whose change is a fault of the program."""
    yield node
    for name, value in ast.iter_fields(node):
        if name in ('annotation', 'decorator_list', 'returns', 'type_params'):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.JoinedStr) or not isinstance(child, ast.AST):
                continue
            if isinstance(child, ast.Assign) and ast.unparse(child.targets[0]) == '__all__':
                continue
            yield from _walk(child)


def _places(text: str) -> Callable[..., int]:
    """From line and column, in bytes as ast has them or in characters, to a place in the text."""
    lines = text.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))

    def place(line: int, in_bytes: int | None, characters: int = 0) -> int:
        if in_bytes is not None:
            characters = len(lines[line - 1].encode()[:in_bytes].decode())
        return starts[line - 1] + characters

    return place


if __name__ == '__main__':
    main()
