"""What the frameworks say when they are imported."""

import sys
import warnings
from contextlib import nullcontext

import pytest

from mmtagclip.frameworks import import_quietly
from tests.processes import run


def test_an_import_is_quiet():
    process = run(sys.executable, '-c', 'import mmtagclip.apis, mmtagclip.datasets')
    assert process.returncode == 0, process.stderr
    assert process.stdout == ''
    assert 'mmcv-lite' not in process.stderr


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
