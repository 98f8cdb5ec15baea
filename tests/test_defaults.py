"""What everything does unless told otherwise: defaults of the package and of the command line.

They are compared with ``tests/defaults.txt``. After an intended change: run
``python -m tests.test_defaults``, look at what it changes, and commit that.
"""

import argparse
import difflib
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import mmtagclip
from mmtagclip.cli import make_parser
from mmtagclip.engine.options import add_run_options

FILE = Path(__file__).parent / 'defaults.txt'
# What an option of the command line is, besides its help.
ACTION = ('nargs', 'const', 'default', 'type', 'choices', 'required')


def functions(module):
    """Public functions of a module, and methods of its public classes, by name."""
    for name, one in vars(module).items():
        if name.startswith('_') or getattr(one, '__module__', None) != module.__name__:
            continue
        members = (
            {f'{name}.{key}': value for key, value in vars(one).items()}
            if inspect.isclass(one)
            else {name: one}
        )
        for path, member in members.items():
            function = getattr(member, '__func__', member)
            last = path.rpartition('.')[2]
            public = not last.startswith('_') or last in ('__init__', '__call__')
            if public and inspect.isfunction(inspect.unwrap(function)):
                yield path, function


def shown(value):
    """A default as text, without an address in memory."""
    return getattr(value, '__qualname__', repr(value))


def of_functions():
    """One line for each public function of the package that has defaults."""
    for found in pkgutil.walk_packages(mmtagclip.__path__, 'mmtagclip.'):
        if found.name.endswith('__main__'):
            continue
        module = importlib.import_module(found.name)
        for path, function in functions(module):
            said = [
                f'{parameter.name}={shown(parameter.default)}'
                for parameter in inspect.signature(function).parameters.values()
                if parameter.default not in (None, parameter.empty, mmtagclip.__version__)
                and 'factory' not in repr(parameter.default)
            ]
            if said:
                yield f'{found.name}.{path}({", ".join(said)})'


def of_commands(parser, name='mmtagclip'):
    """One line for each argument of the command line."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command, one in action.choices.items():
                yield from of_commands(one, f'{name} {command}')
            continue
        if '--help' in action.option_strings:
            continue
        said = {key: getattr(action, key) for key in ACTION}
        said['type'] = getattr(said['type'], '__name__', said['type'])
        words = [
            f'{key}={value!r}'
            for key, value in said.items()
            if value is not None and value is not False
        ]
        yield ' '.join([name, ','.join(action.option_strings) or action.dest, *words])


def defaults():
    tools = argparse.ArgumentParser()
    add_run_options(tools)
    commands = [*of_commands(make_parser()), *of_commands(tools, 'tools/test.py')]
    return [*commands, *sorted(of_functions())]


@pytest.fixture(scope='module')
def found():
    """All of them; it imports all modules."""
    return defaults()


def test_defaults_are_those_that_were_last_looked_at(found):
    known = FILE.read_text(encoding='utf-8').splitlines()
    changed = [
        line
        for line in difflib.unified_diff(known, found, 'recorded', 'now', n=0, lineterm='')
        if not line.startswith('@')
    ]
    assert changed == [], 'if that was intended: python -m tests.test_defaults'


if __name__ == '__main__':
    FILE.write_text('\n'.join(defaults()) + '\n', encoding='utf-8')
