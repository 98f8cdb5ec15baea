"""Check that exactly one set of OpenMMLab distributions is installed.

Two sets of distributions provide the import names ``mmengine``, ``mmcv``, ``mmseg``
and ``mmpretrain``: the maintained OneDL fork and the official releases. They
overwrite each other's files, so exactly one set may be installed. This package
requires neither by itself; the extras ``onedl`` and ``openmmlab`` install one of
them.
"""

from collections.abc import Mapping
from importlib import metadata

from packaging.version import Version

from .extras import install

# import name -> (distribution, oldest version that passed the tests or that they need)
ONEDL = {
    'mmengine': ('onedl-mmengine', '0.10.10'),
    'mmcv': ('onedl-mmcv', '2.3.0'),
    'mmseg': ('onedl-mmsegmentation', '1.4.0'),
    'mmpretrain': ('onedl-mmpretrain', '1.3.0'),
}
OPENMMLAB = {
    'mmengine': ('mmengine', '0.10.0'),
    'mmcv': ('mmcv', '2.0.0'),
    'mmseg': ('mmsegmentation', '1.2.0'),
    'mmpretrain': ('mmpretrain', '1.2.0'),
}
_INSTALL = f'{install("onedl")} (for the official ones see docs/official_stack.md)'


def installed_versions() -> dict[str, str]:
    """Return the versions of the installed distributions of both sets, by name."""
    found = {}
    for table in (ONEDL, OPENMMLAB):
        for distribution, _ in table.values():
            try:
                found[distribution] = metadata.version(distribution)
            except metadata.PackageNotFoundError:
                continue
    return found


def check_distributions(installed: Mapping[str, str]) -> None:
    """Raise an error unless one set of distributions is complete and new enough.

    Args:
        installed: Distribution names and their versions.

    Raises:
        ImportError: Distributions of both sets are installed, some are missing,
            or some are too old. The message names them and says what to do.
    """
    onedl = sorted(name for name, _ in ONEDL.values() if name in installed)
    official = sorted(name for name, _ in OPENMMLAB.values() if name in installed)
    if onedl and official:
        raise ImportError(
            f'mmtagclip found two sets of OpenMMLab distributions: {", ".join(onedl)} and '
            f'{", ".join(official)} overwrite each other; uninstall all of them, then {_INSTALL}'
        )
    table = OPENMMLAB if official else ONEDL
    missing = [name for name in table if table[name][0] not in installed]
    if missing:
        raise ImportError(
            f'mmtagclip needs {", ".join(table)}; not installed: {", ".join(missing)}. '
            f'Install them with: {_INSTALL}'
        )
    old = [
        f'{name} {installed[name]} (needs {least} or newer)'
        for name, least in table.values()
        if Version(installed[name]) < Version(least)
    ]
    if old:
        raise ImportError(
            f'mmtagclip needs newer versions: {", ".join(old)}. Upgrade with: {_INSTALL}'
        )
