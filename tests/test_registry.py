import json
import re
from collections import defaultdict
from pathlib import Path

import pytest

from tests.processes import run_fresh

PACKAGE = Path(__file__).parents[1] / 'mmtagclip'

# Without importing mmtagclip, as a config without custom_imports is run.
CODE = """
import json
import sys
from mmengine import registry as root
from mmengine.registry import DefaultScope

scope = sys.argv[1]
DefaultScope.get_instance('test', scope_name=scope)
from importlib import import_module
child = import_module(scope + '.registry')
assert 'mmtagclip' not in sys.modules

names = json.loads(sys.argv[2])
for kind, parts in names.items():
    for registry in (getattr(root, kind), getattr(child, kind)):
        for name in parts:
            part = registry.get('mmtagclip.' + name)
            assert part is not None, f'{kind}: {name} from {registry.scope}'
            assert part.__name__ == name and part.__module__.startswith('mmtagclip.'), part
            assert registry.get(name) is None or not registry.get(name).__module__.startswith(
                'mmtagclip.'), f'the bare name {name} took a place in {registry.scope}'

loader = root.TRANSFORMS.build({'type': 'mmtagclip.LoadImage', 'max_side': 5})
assert loader.max_side == 5
assert DefaultScope.get_current_instance().scope_name == scope
"""


def registered() -> dict[str, list[str]]:
    """Every class that the sources register, by its registry: the list that nobody keeps."""
    found = defaultdict(list)
    for path in PACKAGE.rglob('*.py'):
        text = path.read_text(encoding='utf-8')
        for registry, name in re.findall(r'^@(\w+)\.register_module\(\)\nclass (\w+)', text, re.M):
            found[registry].append(name)
        found['MODELS'] += re.findall(r'^@last_block\nclass (\w+)', text, re.M)
    return dict(found)


def test_all_registries_have_parts():
    text = (PACKAGE / 'registry.py').read_text()
    assert set(registered()) == set(re.findall(r'^(\w+) = ChildRegistry\(', text, re.M))
    assert {'TagCLIP', 'SCCLIPLastBlock', 'CLSSegTTA'} <= set(registered()['MODELS'])


@pytest.mark.parametrize('scope', ['mmpretrain', 'mmseg'])
def test_prefixed_names_resolve_under_the_default_scope(scope, tmp_path):
    (tmp_path / 'code.py').write_text(CODE)
    process = run_fresh(tmp_path / 'code.py', scope, json.dumps(registered()))
    assert process.returncode == 0, process.stderr
