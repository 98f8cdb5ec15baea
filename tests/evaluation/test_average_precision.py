"""mAP over all classes, and over those that occur."""

import math

import pytest
import torch
from mmpretrain.evaluation import AveragePrecision as MMPretrainAveragePrecision

from mmtagclip.evaluation import AveragePrecision, VOCAveragePrecision
from mmtagclip.registry import METRICS
from tests.evaluation.test_relative_threshold import evaluate

SCORES = torch.tensor([[0.9, 0.3, 0.8, 0.1], [0.1, 0.7, 0.9, 0.2], [0.5, 0.2, 0.1, 0.3]])
# Class 1 never occurs, and class 3 only where it is ignored.
LABELS = torch.tensor([[1, 0, 1, 0], [0, 0, 0, -1], [0, 0, 0, 0]])


def test_classes_that_occur():
    found = evaluate(AveragePrecision(), SCORES, LABELS)
    assert found['multi-label/mAP_present'] == pytest.approx(100 * (1 + 1 / 2) / 2)
    assert found['multi-label/mAP'] == pytest.approx(100 * (1 + 1 / 2) / 4)
    (mean,) = evaluate(MMPretrainAveragePrecision(), SCORES, LABELS).values()
    assert found['multi-label/mAP'] == mean
    both = evaluate(AveragePrecision(), SCORES[:, [0, 2]], LABELS[:, [0, 2]])
    assert both['multi-label/mAP'] == both['multi-label/mAP_present']


def test_no_class_occurs():
    found = evaluate(AveragePrecision(), SCORES, torch.zeros_like(LABELS))
    assert found['multi-label/mAP'] == 0
    assert math.isnan(found['multi-label/mAP_present'])


def test_of_each_class():
    found = evaluate(AveragePrecision(average=None), SCORES, LABELS)
    assert list(found) == ['multi-label/AP_classwise']


def test_what_only_difficult_objects_show_occurs_only_if_they_count():
    labels = [torch.tensor([0]), torch.tensor([0]), torch.tensor([0])]
    difficult = [[1], [], []]
    ignored, positive = (
        evaluate(VOCAveragePrecision(**how), SCORES, labels, difficult)
        for how in ({}, {'difficult_as_positive': True})
    )
    assert ignored['multi-label/mAP_present'] == pytest.approx(100)
    assert positive['multi-label/mAP_present'] == pytest.approx(100 * (1 + 1 / 2) / 2)


def test_both_are_registered_beside_mmpretrain_s():
    assert METRICS.get('mmtagclip.AveragePrecision') is AveragePrecision
    assert METRICS.get('mmtagclip.VOCAveragePrecision') is VOCAveragePrecision
    assert METRICS.get('mmpretrain.AveragePrecision') is MMPretrainAveragePrecision
