"""Metrics."""

# First: what is imported below imports MMPretrain, too, and has said its lines then.
from ..frameworks import pretrain  # noqa: F401

# isort: split
from .average_precision import AveragePrecision, VOCAveragePrecision, present_map
from .relative_threshold import RelativeThresholdMetric, VOCRelativeThresholdMetric

__all__ = [
    'AveragePrecision',
    'RelativeThresholdMetric',
    'VOCAveragePrecision',
    'VOCRelativeThresholdMetric',
    'present_map',
]
