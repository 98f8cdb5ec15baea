"""Metrics."""

from .relative_threshold import RelativeThresholdMetric, VOCRelativeThresholdMetric

__all__ = ['RelativeThresholdMetric', 'VOCRelativeThresholdMetric']
