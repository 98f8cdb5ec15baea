"""Metrics."""

from .average_precision import AveragePrecision, VOCAveragePrecision, present_map
from .relative_threshold import RelativeThresholdMetric, VOCRelativeThresholdMetric

__all__ = [
    'AveragePrecision',
    'RelativeThresholdMetric',
    'VOCAveragePrecision',
    'VOCRelativeThresholdMetric',
    'present_map',
]
