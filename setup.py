"""Build script; all metadata stands in pyproject.toml.

Configs, tools and the demo go into the wheel as ``mmtagclip/.mim``, where mim and
``mmtagclip models`` look for them; the source tree stays as it is.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
MIM = ('configs', 'tools', 'demo/model', 'demo/data', 'demo/LICENSES', 'model-index.yml')


class BuildWithMim(build_py):
    """Copy what mim serves next to the package, except for an editable install."""

    def run(self) -> None:
        """Build."""
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib, 'mmtagclip', '.mim')
        shutil.rmtree(target, ignore_errors=True)
        for name in MIM:
            source = ROOT / name
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target / name, ignore=shutil.ignore_patterns('__pycache__'))
            else:
                shutil.copy(source, target / name)


setup(cmdclass={'build_py': BuildWithMim})
