"""The mutation run: its faults, the tests that it picks, and a run over a toy package."""

import ast
import importlib.util
import subprocess
import sys

import pytest

from tests.processes import ROOT, run, slow

SCRIPT = ROOT / 'tools/dev/mutants.py'
SPEC = importlib.util.spec_from_file_location('mutants', SCRIPT)
mutants = importlib.util.module_from_spec(SPEC)
sys.modules['mutants'] = mutants  # where dataclasses look for it
SPEC.loader.exec_module(mutants)


def changed(text, path='module.py'):
    """Lines of a text that each of its faults makes, and the text with each."""
    faults = [fault for fault in mutants.faults(path, text) if mutants.changes(fault, text)]
    return [fault.apply(text) for fault in faults]


@pytest.mark.parametrize(
    ('line', 'faulty'),
    [
        ('x = a > b', {'x = a >= b'}),
        ('x = a <= b', {'x = a < b'}),
        ('x = a == b', {'x = a != b'}),
        (
            'x = 0 <= a < 1',
            {'x = 0 < a < 1', 'x = 0 <= a <= 1', 'x = 1 <= a < 1', 'x = 0 <= a < 0'},
        ),
        ('x = a + b', {'x = a - b'}),
        ('x = (a) * (b)', {'x = (a) / (b)'}),
        ('x = a // b', {'x = a / b'}),
        ('x += a', {'x -= a'}),
        ('x = a and b', {'x = a or b'}),
        ('x = not a', {'x = a'}),
        ('x = a[..., ::-1]', {'x = a[..., :]', 'x = a[..., ::-0]'}),
        ('x = f(dim=0)', {'x = f(dim=1)'}),
        ('x = f(dim=1)', {'x = f(dim=0)'}),
        ('x = 7', {'x = 8', 'x = 6'}),
        ('x = 0.5', {'x = 0.55'}),
        ('x = 1e-7', {'x = 1.1e-07'}),
        ('x = True', {'x = False'}),
        ("x = 'text'", {"x = 'textt'"}),
        ("x: str = 'text'", {"x: str = 'textt'"}),
        ("f(how='bicubic')", {"f(how='bicubicc')", 'pass'}),
        (
            "def f(a, how='bicubic', *, to='up'): a('bilinear')",
            {
                "def f(a, how='bilinear', *, to='up'): a('bilinear')",
                "def f(a, how='bicubic', *, to='bicubic'): a('bilinear')",
                "def f(a, how='bicubic', *, to='up'): pass",
            },
        ),
        ("x = 'a text for people'", set()),
        ("x = ''", set()),
        ("f('text', y)", {'pass'}),
        ("x = g('text')", set()),
        ("x: Literal['text'] = a", set()),
        ("x = f(metavar='FILE')", set()),  # for people
        ("x = ('one', a)", {"x = ('onee', a)"}),
        ("x = {'one': a}", {"x = {'onee': a}"}),
        ('os.fsync(file)', {'pass'}),
        ("x = 'Größe', a + b", {"x = 'Größee', a + b", "x = 'Größe', a - b"}),
        ("x = f'{a + 1:.2f}'", set()),
        ('x: Literal[1] = a', set()),
        ("__all__ = ['a', 'b']", set()),
        ('"""A docstring of 3 words."""', set()),
        ('@register(1)\ndef f():\n    return a, b', {'@register(1)\ndef f():\n    return b, a'}),
    ],
)
def test_faults_of_python(line, faulty):
    assert set(changed(line)) == faulty
    for text in faulty:
        ast.parse(text)


def test_faults_of_numbers_and_lists():
    assert set(changed('a: 2\nb: [0.5, x2]\n', 'a.yml')) == {
        'a: 3\nb: [0.5, x2]\n',
        'a: 1\nb: [0.5, x2]\n',
        'a: 2\nb: [0.55, x2]\n',
    }
    assert set(changed('# Names\ndog, puppy\ncat\n', 'names.txt')) == {
        '# Names\ndogg, puppy\ncat\n',
        '# Names\ncat\n',
        '# Names\ncat\ndog, puppy\n',
        '# Names\ndog, puppy\ncatt\n',
        '# Names\ndog, puppy\n',
    }


def test_a_fault_says_where_it_is():
    (fault,) = mutants.faults('a.py', 'x = 1\n\ny = (a\n     > b)\n')[1:]
    assert (fault.line, fault.what) == (4, '> -> >=')


def test_tests_of_a_file():
    of = {path: mutants.tests_of(path, ROOT) for path in (
        'mmtagclip/models/taggers/dmar.py',
        'mmtagclip/clip/last_blocks/sclip.py',
        'mmtagclip/labels.py',
        'mmtagclip/vocabularies/voc.txt',
        'configs/demo/tagclip_demo.py',
        'tools/analysis_tools/benchmark.py',
    )}  # fmt: skip
    first = [tests[0] for tests in of.values()]
    assert first == [
        'tests/models/taggers/test_dmar.py',
        'tests/clip/last_blocks/test_last_blocks.py',
        'tests/test_labels.py',
        'tests/clip/test_vocabulary.py',
        'tests/test_configs.py',
        'tests/tools/test_analysis_tools.py',
    ]
    assert 'tests/models/taggers/test_golden.py' in of['mmtagclip/models/taggers/dmar.py']
    command = mutants.tests_of('mmtagclip/cli/thresholds.py', ROOT)
    assert command[0] == 'tests/test_cli.py'
    assert command[-2:] == [  # of its name, then of everything
        'tests/models/taggers/test_thresholds.py',
        'tests/test_defaults.py',
    ]
    assert of['mmtagclip/labels.py'] == ['tests/test_labels.py', 'tests/test_defaults.py']
    with pytest.raises(FileNotFoundError, match=r'no tests mirror setup\.py: name some with'):
        mutants.tests_of('setup.py', ROOT)


def test_all_files_of_the_package_have_tests():
    for path in sorted((ROOT / 'mmtagclip').rglob('*.py')):
        found = mutants.tests_of(str(path.relative_to(ROOT)), ROOT)
        assert found[-1 - (path.name == '__init__.py')] == 'tests/test_defaults.py'
        assert all((ROOT / one).is_file() for one in found)
        assert len(found) > 1


@pytest.mark.parametrize(
    ('line', 'lines'),
    [(1, [1]), (3, [2, 3]), (4, [4]), (5, [5, 6]), (6, [5, 6]), (8, [8]), (9, [9])],
)
def test_the_statement_of_a_fault(line, lines):
    text = 'x = 1\ndef f(\n    a=2):\n    if a:\n        g(a,\n          3)\n\nif x: f()\ny = 2\n'
    fault = mutants.Fault('a.py', 0, 1, 'y', line, '')
    assert list(mutants.statement(fault, text)) == lines
    assert list(mutants.statement(mutants.Fault('a.txt', 0, 1, 'y', line, ''), text)) == [line]


@pytest.fixture
def toy(tmp_path):
    """A repository of one module and its tests, which see some of its faults."""
    files = {
        'mmtagclip/__init__.py': '',
        'mmtagclip/toy.py': (
            'def above(x):\n    return x > 2\n\n\n'
            'def settle(x):\n    while not x:\n        x = str(x)\n    return x\n'
        ),
        'tests/test_toy.py': (
            'from mmtagclip.toy import above, settle\n\n\ndef test_above():\n'
            '    assert above(3)\n    assert not above(1)\n\n\ndef test_settle():\n'
            '    assert settle(1) == 1\n'
        ),
        '.gitignore': '__pycache__/\n',
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)

    def git(*arguments):
        subprocess.run(['git', '-C', tmp_path, *arguments], check=True, capture_output=True)

    git('init', '-q')
    git('add', '.')
    git('-c', 'user.name=a', '-c', 'user.email=a@example.org', 'commit', '-qm', 'Toy')
    return tmp_path


def table(toy, *arguments):
    process = run(
        sys.executable, SCRIPT, '--tree', toy, '--warm', 'pytest', *arguments, PYTEST_ADDOPTS=''
    )
    return process, process.stdout.splitlines()


@slow
def test_a_run(toy):
    module = toy / 'mmtagclip/toy.py'
    before = module.read_text()
    process, lines = table(toy, 'mmtagclip/toy.py')
    assert process.returncode == 0, process.stderr
    assert lines[0] == '4 faults in 1 files; 4 are tried'
    verdicts = {line.partition('mmtagclip/')[2]: line.split('  ')[0] for line in lines[1:-1]}
    assert verdicts == {
        'toy.py:2  > -> >=': 'NOT SEEN',  # 2 itself is not tested
        'toy.py:2  2 -> 1': 'NOT SEEN',
        'toy.py:2  2 -> 3': 'seen',
        'toy.py:6  not -> (nothing)': 'seen (timeout)',
    }
    assert lines[-1] == '2 of 4 seen (50 %)'
    assert module.read_text() == before


def test_a_sample_of_what_changed(toy):
    module = toy / 'mmtagclip/toy.py'
    module.write_text(module.read_text().partition('\n\n\ndef settle')[0] + '\n\n\nsettle = str\n')
    (toy / 'tests/test_toy.py').write_text(
        'from mmtagclip import toy\n\ndef test_it():\n    pass\n'
    )
    process, lines = table(toy, '--since', 'HEAD', '--count', '2', '--seed', '3')
    assert process.returncode == 0, process.stderr
    assert lines[0] == '3 faults in 1 files; 2 are tried'
    assert lines[-1] == '0 of 2 seen (0 %)'


def test_tests_that_fail_without_a_fault(toy):
    (toy / 'tests/test_toy.py').write_text('def test_it():\n    assert False\n')
    process, _ = table(toy, 'mmtagclip/toy.py')
    assert process.returncode == 1
    assert 'without any fault, they fail: tests/test_toy.py' in process.stderr


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ((), 'name either files or --since'),
        (('a.py', '--since', 'HEAD'), 'name either files or --since'),
        (('a.py', '--only-tests'), '--only-tests needs --tests'),
    ],
)
def test_bad_arguments(monkeypatch, capsys, arguments, message):
    monkeypatch.setattr('sys.argv', ['mutants.py', *arguments])
    with pytest.raises(SystemExit):
        mutants.main()
    assert message in capsys.readouterr().err
