"""What the frameworks say when they are imported."""

import os
import sys
import warnings
from contextlib import nullcontext

import pytest

from mmtagclip.frameworks import import_quietly
from tests.processes import run


def test_an_import_is_quiet():
    process = run(sys.executable, '-c', 'import mmtagclip.apis.inferencer, mmtagclip.datasets')
    assert process.returncode == 0, process.stderr
    assert process.stdout == ''
    assert 'mmcv-lite' not in process.stderr


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
    program = (
        'import mmpretrain.utils.dependency as there; assert there.WITH_MULTIMODAL; '
        'import mmtagclip.datasets, mmtagclip.models, mmtagclip.apis.inferencer; '
        'print(mmtagclip.models.CLIPEncoder.__name__)'
    )
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    process = run(sys.executable, '-c', program, PYTHONPATH=path)
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines()[-1] == 'CLIPEncoder'


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
