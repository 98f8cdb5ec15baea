import subprocess
import sys

import pytest

from mmtagclip.compat import ONEDL, OPENMMLAB, check_distributions


def whole_set(table):
    return dict(table.values())


@pytest.mark.parametrize('table', [ONEDL, OPENMMLAB])
def test_whole_set_is_accepted(table):
    check_distributions(whole_set(table))


@pytest.mark.parametrize('table', [ONEDL, OPENMMLAB])
def test_versions_are_compared_as_numbers(table):
    check_distributions(dict.fromkeys(whole_set(table), '100.0'))


def test_nothing_installed():
    with pytest.raises(
        ImportError,
        match=r'not installed: mmengine, mmcv, mmseg, mmpretrain\. '
        r"Install them with: pip install -e '\.\[onedl\]'",
    ):
        check_distributions({})


@pytest.mark.parametrize('official', [{'mmengine': '0.10.7'}, whole_set(OPENMMLAB)])
def test_two_sets_mixed(official):
    with pytest.raises(
        ImportError,
        match=r'two sets .* distributions: onedl-mmcv, .* and .*mmengine.* '
        r'overwrite each other; uninstall all',
    ) as caught:
        check_distributions({**whole_set(ONEDL), **official})
    for name in [*whole_set(ONEDL), *official]:
        assert name in str(caught.value)


@pytest.mark.parametrize('table', [ONEDL, OPENMMLAB])
@pytest.mark.parametrize('package', ['mmengine', 'mmcv', 'mmseg', 'mmpretrain'])
def test_one_missing(table, package):
    installed = whole_set(table)
    del installed[table[package][0]]
    with pytest.raises(ImportError, match=rf'not installed: {package}\. Install'):
        check_distributions(installed)


@pytest.mark.parametrize(
    'table, distribution, version',
    [
        (ONEDL, 'onedl-mmcv', '2.2.9'),
        (OPENMMLAB, 'mmpretrain', '1.0.0rc8'),
        (ONEDL, 'onedl-mmengine', '0.10.9'),
    ],
)
def test_too_old(table, distribution, version):
    with pytest.raises(
        ImportError,
        match=rf'needs newer versions: {distribution} {version} '
        r'\(needs [\d.]+ or newer\)\. Upgrade with',
    ):
        check_distributions({**whole_set(table), distribution: version})


def test_import_without_any_distribution():
    # A process of its own, in which no distribution of either set has metadata.
    code = f"""
from importlib import metadata
real = metadata.version
def version(name):
    if name in {[*whole_set(ONEDL), *whole_set(OPENMMLAB)]!r}:
        raise metadata.PackageNotFoundError(name)
    return real(name)
metadata.version = version
import mmtagclip
"""
    run = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=300)
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1].startswith(
        'ImportError: mmtagclip needs mmengine, mmcv, mmseg, mmpretrain; not installed: mmengine, '
    )
    assert 'During handling' not in run.stderr
