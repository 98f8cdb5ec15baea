"""What the frameworks say when they are imported."""

import re
import sys
import warnings
from contextlib import nullcontext
from unittest import mock

import pytest

from mmtagclip.frameworks import import_quietly, import_scope
from tests.processes import ROOT, run_fresh

# What imports a framework, and so must import ours first: its lines are said at the first import.
FILES = [
    path
    for folder in ('mmtagclip', 'tools', 'demo')
    for path in sorted((ROOT / folder).rglob('*.py'))
]
FRAMEWORK = re.compile(r'^(?:from|import) (mmseg|mmpretrain)\b', re.M)
OURS = re.compile(r'^from \S*frameworks import (segmentation|pretrain)\b', re.M)


def test_whoever_imports_a_framework_imports_ours_first():
    checked = 0
    for path in FILES:
        text = path.read_text(encoding='utf-8')
        found = FRAMEWORK.search(text)
        if found is None:
            continue
        checked += 1
        package = path.with_name('__init__.py')
        before = text[: found.start()]
        if package.is_file() and package != path:  # which is imported before its modules
            before += package.read_text(encoding='utf-8')
        ours = {match[1] for match in OURS.finditer(before)}
        needed = {match[1] for match in FRAMEWORK.finditer(text)}
        assert ours, f'{path} imports {needed}, and may say what nobody needs'
        assert 'mmseg' not in needed or 'segmentation' in ours, path
    assert checked >= 10


def test_an_import_is_quiet(tmp_path):
    (tmp_path / 'program.py').write_text(
        'from mmtagclip import SegInferencer, TagInferencer\n'
        'from mmtagclip.datasets import VocabularySegDataset\n'
    )
    process = run_fresh(tmp_path / 'program.py')
    assert process.returncode == 0, process.stderr
    assert process.stdout == ''
    assert 'mmcv-lite' not in process.stderr


def test_a_scope_s_framework_is_imported():
    for scope, module in (('mmpretrain', 'pretrain'), ('mmseg', 'segmentation'), (None, '')):
        with mock.patch('mmtagclip.frameworks.import_module') as imported:
            import_scope(scope)
        names = [call.args for call in imported.call_args_list]
        assert names == ([(f'.{module}', 'mmtagclip.frameworks')] if module else [])


@pytest.mark.parametrize('version', ['4.57.0', '5.24.0'])
def test_transformers_may_be_of_any_version(tmp_path, version):
    """Here one that lacks all that MMPretrain's multimodal models import from it."""
    (tmp_path / 'transformers').mkdir()
    (tmp_path / 'transformers' / '__init__.py').write_text(f'__version__ = {version!r}\n')
    facts = tmp_path / f'transformers-{version}.dist-info'
    facts.mkdir()
    (facts / 'METADATA').write_text(
        f'Metadata-Version: 2.1\nName: transformers\nVersion: {version}\n'
    )
    (tmp_path / 'program.py').write_text("""
import sys
for name in list(sys.modules):  # which import transformers, too
    if name.partition('.')[0] in {'open_clip', 'timm', 'transformers'}:
        del sys.modules[name]
import mmpretrain.utils.dependency as there
assert there.WITH_MULTIMODAL
import mmtagclip.apis.seg_inferencer
from mmtagclip.datasets import PseudoLabelDataset
from mmtagclip.models import CLSSeg
import transformers
print(transformers.__version__, CLSSeg.__name__)
""")
    process = run_fresh(tmp_path / 'program.py')
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines()[-1] == f'{version} CLSSeg'


@pytest.mark.parametrize('end', ['', '1 / 0'])
def test_all_else_is_passed_on(tmp_path, monkeypatch, capsys, end):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, 'talkative', raising=False)
    (tmp_path / 'talkative.py').write_text(f"""
import warnings
print('Could not import OneDL')
print('Could not import OneDL, and that matters')
warnings.warn('Fail to import something else')
warnings.warn('Fail to import ``MultiScaleDeformableAttention`` from there')
{end}""")
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter('always')
        with pytest.raises(ZeroDivisionError) if end else nullcontext():
            import_quietly('talkative')
    assert capsys.readouterr().out == 'Could not import OneDL, and that matters\n'
    assert [str(one.message) for one in warned] == ['Fail to import something else']
