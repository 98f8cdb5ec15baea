"""Sphinx's configuration: make docs."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mmtagclip.version import __version__  # noqa: E402

project = 'mmtagclip'
author = 'The mmtagclip authors'
version = release = __version__
extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'sphinx.ext.viewcode']
html_theme = 'furo'
exclude_patterns = ['_build']
autodoc_typehints = 'none'  # they stand in the docstrings, with shapes and ranges
autodoc_member_order = 'bysource'
napoleon_use_ivar = True
napoleon_use_rtype = False
myst_heading_anchors = 3
# Pages link to files of the repository, as GitHub shows them.
suppress_warnings = ['myst.xref_missing']
