"""Packages whose names are imported on first use."""

import ast
import gc
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import pytest

import mmtagclip
from mmtagclip import lazy
from mmtagclip.lazy import lazy_names, without_collection

PACKAGE = Path(mmtagclip.__file__).parent
LAZY = [
    path
    for path in sorted(PACKAGE.rglob('__init__.py'))
    if 'lazy_names(' in path.read_text(encoding='utf-8')
]


def test_there_are_lazy_packages():
    assert {path.parent.name for path in LAZY} >= {'mmtagclip', 'clip', 'models', 'apis'}


@pytest.mark.parametrize('path', LAZY, ids=lambda path: path.parent.name)
def test_every_name_is_found_where_type_checkers_are_told(path):
    package = import_module('.'.join(('mmtagclip', *path.parent.relative_to(PACKAGE).parts)))
    tree = ast.parse(path.read_text(encoding='utf-8'))
    told = {
        alias.name: import_module('.' * node.level + node.module, package.__name__)
        for branch in tree.body
        if isinstance(branch, ast.If)
        for node in branch.body
        for alias in node.names
    }
    modules = {one.stem for one in path.parent.iterdir()}
    for name, module in told.items():
        assert getattr(package, name) is getattr(module, name), name
        assert name not in modules, f'{name} would be lost to the module'
    assert set(package.__all__) <= {*vars(package), *told}
    assert set(package.__all__) | set(told) <= set(dir(package))
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute"):
        package.no_such_name  # noqa: B018


def test_a_program_keeps_what_it_imported(monkeypatch):
    before = gc.get_freeze_count()
    with without_collection():
        pass
    assert gc.get_freeze_count() == before  # a library leaves the collector as it is
    monkeypatch.setattr(lazy, 'ours', True)
    with without_collection():
        made = [[] for _ in range(1000)]
    assert gc.get_freeze_count() >= before + len(made)


@pytest.mark.parametrize('enabled', [True, False])
def test_modules_are_imported_without_garbage_collection(enabled):
    assert gc.isenabled()
    if not enabled:
        gc.disable()
    try:
        with without_collection(), without_collection():
            assert not gc.isenabled()
        assert gc.isenabled() == enabled
        with suppress(ImportError), without_collection():
            raise ImportError
        assert gc.isenabled() == enabled
    finally:
        gc.enable()


def test_names_are_imported_without_garbage_collection(monkeypatch):
    seen = []

    def module(*_):
        seen.append(gc.isenabled())
        return ast

    monkeypatch.setattr('mmtagclip.lazy.import_module', module)
    get, _ = lazy_names('mmtagclip.apis', {'.results': ('parse',)})
    assert get('parse') is ast.parse
    assert seen == [False]
    monkeypatch.undo()
    vars(sys.modules['mmtagclip.apis']).pop('parse')
