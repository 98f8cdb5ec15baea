"""MMPretrain's mAP, and the same over the classes that occur."""

# First: what is imported below imports MMPretrain, too, and has said its lines then.
from ..frameworks import pretrain  # noqa: F401

# isort: split
from typing import Any

import torch
from mmpretrain.evaluation import AveragePrecision as MMPretrainAveragePrecision
from mmpretrain.evaluation.metrics.voc_multi_label import VOCMetricMixin
from torch import Tensor

from ..registry import METRICS


def present_map(pred: Tensor, target: Tensor) -> float:
    """MMPretrain's mAP, in percent, over the classes that have at least one positive label.

    A class without one has no average precision. MMPretrain counts it as 0, as the published
    figures do, so that mAP is low where images show few of the classes.

    Args:
        pred: ``(n, C)`` scores.
        target: ``(n, C)`` labels: 1, 0, or -1 for labels that are ignored.

    Returns:
        NaN if no class has a positive label.
    """
    present = (target == 1).any(dim=0)
    return MMPretrainAveragePrecision.calculate(pred[:, present], target[:, present]).item()


@METRICS.register_module()
class AveragePrecision(MMPretrainAveragePrecision):
    """MMPretrain's AveragePrecision; beside ``mAP`` it reports ``mAP_present``.

    See :func:`present_map`. The arguments are those of
    :class:`mmpretrain.evaluation.AveragePrecision`.
    """

    def compute_metrics(self, results: list[dict]) -> dict[str, Any]:
        """Compute the metrics over all images; labels of -1 are ignored."""
        metrics = super().compute_metrics(results)
        if 'mAP' in metrics:
            pred, target = (
                torch.stack([one[key] for one in results]) for key in ('pred_score', 'gt_score')
            )
            metrics['mAP_present'] = present_map(pred, target)
        return metrics


@METRICS.register_module()
class VOCAveragePrecision(VOCMetricMixin, AveragePrecision):
    """The same for VOC; ``difficult_as_positive`` sets how difficult objects count."""
