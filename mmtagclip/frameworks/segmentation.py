"""Import MMSegmentation, and MMPretrain, whose parts it takes."""

from . import import_quietly, pretrain  # noqa: F401

import_quietly('mmseg.models', 'mmseg.datasets')
