"""The walls between the rooms: who may import whom."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / 'mmtagclip'
FRAMEWORKS = ('mmcv', 'mmengine', 'mmpretrain', 'mmseg')
CELLAR = 'mmtagclip.extras'  # which every room may use
GROUND_FLOOR = ('files', 'images', 'label_config', 'labels', 'palette', 'records')
# Where a module lies, and what it must not import.
WALLS = [
    *((name, ('mmtagclip.',)) for name in GROUND_FLOOR),
    ('clip', FRAMEWORKS),
    ('regions', ('mmtagclip.models', 'mmtagclip.datasets', 'mmtagclip.engine', 'mmtagclip.apis')),
    (
        'exports',
        (
            *FRAMEWORKS,
            'mmtagclip.clip',
            'mmtagclip.models',
            'mmtagclip.datasets',
            'mmtagclip.engine',
            'mmtagclip.apis',
            'mmtagclip.web',
            'mmtagclip.cli',
        ),
    ),
    *((room, ('mmtagclip.web', 'mmtagclip.cli')) for room in ('models', 'evaluation', 'datasets')),
    ('evaluation', ('mmtagclip.engine', 'mmtagclip.apis', 'mmtagclip.jobs')),
    ('models', ('mmtagclip.datasets', 'mmtagclip.engine', 'mmtagclip.apis', 'mmtagclip.jobs')),
    (
        'jobs',
        (
            'mmtagclip.exports',
            'mmtagclip.engine',
            'mmtagclip.apis',
            'mmtagclip.web',
            'mmtagclip.cli',
        ),
    ),
    ('datasets', ('mmtagclip.models', 'mmtagclip.engine', 'mmtagclip.apis')),
    ('visualization', ('mmtagclip.models', 'mmtagclip.engine', 'mmtagclip.apis')),
    ('engine', ('mmtagclip.apis', 'mmtagclip.web', 'mmtagclip.cli')),
    ('apis', ('mmtagclip.web', 'mmtagclip.cli', 'mmtagclip.batch')),
    ('batch', ('mmtagclip.web', 'mmtagclip.cli')),
]


# What is below clip/: all of the package that it may import.
BELOW_CLIP = (
    'clip',
    'extras',
    'files',
    'images',
    'label_config',
    'labels',
    'lazy',
    'records',
    'version',
)


def imported(path: Path) -> set[str]:
    """Full names of the modules that a file imports, wherever in it."""
    package = ('mmtagclip', *path.relative_to(PACKAGE).parent.parts)
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = '.'.join(package[: len(package) - node.level + 1]) if node.level else ''
            module = '.'.join(filter(None, (base, node.module)))
            found |= {module, *(f'{module}.{alias.name}' for alias in node.names)}
    return found


@pytest.mark.parametrize('room, forbidden', WALLS, ids=str)
def test_rooms_import_only_what_lies_below(room, forbidden):
    files = [*PACKAGE.glob(f'{room}.py'), *PACKAGE.glob(f'{room}/**/*.py')]
    assert files
    for path in files:
        for module in imported(path):
            wall = [one for one in forbidden if f'{module}.'.startswith(f'{one.rstrip(".")}.')]
            if wall == ['mmtagclip.'] and (module == 'mmtagclip' or module.startswith(CELLAR)):
                continue
            if room == 'labels' and module.startswith('mmtagclip.palette'):
                continue
            assert not wall, f'{path.relative_to(PACKAGE)} imports {module}'


def test_clip_imports_nothing_that_brings_openmmlab():
    for path in PACKAGE.glob('clip/**/*.py'):
        for module in imported(path):
            if module.startswith('mmtagclip.'):
                assert module.split('.')[1] in BELOW_CLIP, f'{path.relative_to(PACKAGE)}: {module}'
