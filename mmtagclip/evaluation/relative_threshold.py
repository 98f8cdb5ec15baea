"""Micro precision, recall and F1 of tags with a threshold per image (TagCLIP, sec. 4)."""

from typing import Any

import torch
from mmpretrain.evaluation import MultiLabelMetric
from mmpretrain.evaluation.metrics.voc_multi_label import VOCMetricMixin

from ..models.taggers.selection import TagRule
from ..registry import METRICS


@METRICS.register_module()
class RelativeThresholdMetric(MultiLabelMetric):
    """Precision, recall and F1 of tags with a threshold relative to the image's scores.

    Give it the same values as the head whose tags it counts; see
    :class:`mmtagclip.models.TagRule`.

    Args:
        k: A tag has a score above ``min + k * (max - min)`` of the image's scores;
            published: 0.5 (0.1 on COCO-Stuff).
        min_score: Lowest score of a tag.
        top: Most tags of an image; any number if None.
        average: See :class:`mmpretrain.evaluation.MultiLabelMetric`; published
            figures are ``'micro'``.
        **kwargs: ``items``, ``collect_device`` and ``prefix`` of that class.
    """

    def __init__(
        self,
        k: float = 0.5,
        average: str | None = 'micro',
        min_score: float = 0.0,
        top: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(thr=0.5, average=average, **kwargs)
        self.rule = TagRule(k, min_score, top)

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Compute the metrics over all images; labels of -1 are ignored."""
        tagged = []
        for result in results:
            known = result['gt_score'] != -1
            tags = self.rule.mask(result['pred_score'])
            tagged.append(
                {
                    'pred_score': (tags & known).float(),
                    'gt_score': torch.where(known, result['gt_score'], 0),
                }
            )
        return super().compute_metrics(tagged)


@METRICS.register_module()
class VOCRelativeThresholdMetric(VOCMetricMixin, RelativeThresholdMetric):
    """The same for VOC; ``difficult_as_positive`` sets how difficult objects count."""
