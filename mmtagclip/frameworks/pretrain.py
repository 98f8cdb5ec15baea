"""Import MMPretrain."""

from . import import_quietly, leave_out_multimodal

leave_out_multimodal()
import_quietly('mmpretrain.models', 'mmpretrain.datasets')
