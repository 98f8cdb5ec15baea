"""MMSegmentation and MMPretrain, imported without what they say of parts that nobody asked for.

To import this module imports them. Left out are the fork's line about its own data format and
mmcv's advice on an operator that nothing here uses; all else that they print or warn of is kept.
"""

import contextlib
import io
import warnings
from importlib import import_module

UNASKED_LINE = 'Could not import OneDL'
UNASKED_WARNING = 'Fail to import ``MultiScaleDeformableAttention``'


def import_quietly(*modules: str) -> None:
    """Import modules, and pass on what they print except :data:`UNASKED_LINE`.

    Args:
        modules: Their full names.
    """
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), warnings.catch_warnings():
            warnings.filterwarnings('ignore', UNASKED_WARNING)
            for module in modules:
                import_module(module)
    finally:
        for line in printed.getvalue().splitlines():
            if line != UNASKED_LINE:
                print(line)


def leave_out_multimodal() -> None:
    """Let MMPretrain leave out its multimodal models, which nothing here uses.

    Where transformers is installed, MMPretrain imports them, slowly, and can't
    be imported at all beside transformers 5. Whoever needs them in the same
    process imports ``mmpretrain.models`` first.
    """
    import_module('mmpretrain.utils.dependency').WITH_MULTIMODAL = False  # type: ignore[attr-defined]


leave_out_multimodal()
import_quietly('mmseg.models', 'mmseg.datasets', 'mmpretrain.models', 'mmpretrain.datasets')
