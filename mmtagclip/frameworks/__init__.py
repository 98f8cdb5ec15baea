"""MMPretrain and MMSegmentation, imported without messages about parts that are not used here.

Importing :mod:`.pretrain` or :mod:`.segmentation` imports the framework. A module of this package
imports one of them before it imports anything of that framework. Two messages are suppressed: the
fork's line about its data format, and mmcv's warning about an operator. All other output and
warnings are kept.
"""

import contextlib
import io
import warnings
from importlib import import_module

UNUSED_LINE = 'Could not import OneDL'
UNUSED_WARNING = 'Fail to import ``MultiScaleDeformableAttention``'
SCOPES = {'mmpretrain': 'pretrain', 'mmseg': 'segmentation'}


def import_quietly(*modules: str) -> None:
    """Import modules and keep what they print, except :data:`UNUSED_LINE`.

    Args:
        modules: Full names of the modules.
    """
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), warnings.catch_warnings():
            warnings.filterwarnings('ignore', UNUSED_WARNING)
            for module in modules:
                import_module(module)
    finally:
        for line in printed.getvalue().splitlines():
            if line != UNUSED_LINE:
                print(line)


def import_scope(scope: str | None) -> None:
    """Import the framework of a config's ``default_scope``, before MMEngine imports it aloud.

    Args:
        scope: The scope; of others than ``'mmpretrain'`` and ``'mmseg'`` nothing is imported.
    """
    if scope in SCOPES:
        import_module(f'.{SCOPES[scope]}', __name__)


def leave_out_multimodal() -> None:
    """Stop MMPretrain from importing its multimodal models, which are not used here.

    If transformers is installed, importing them is slow, and with transformers 5 it
    fails. To use them in the same process, import ``mmpretrain.models`` first.
    """
    import_module('mmpretrain.utils.dependency').WITH_MULTIMODAL = False  # type: ignore[attr-defined]
