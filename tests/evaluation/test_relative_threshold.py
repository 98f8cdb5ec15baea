import pytest
import torch
from mmengine.evaluator import Evaluator
from mmpretrain.evaluation import AveragePrecision, VOCAveragePrecision
from mmpretrain.structures import DataSample

from mmtagclip.evaluation import RelativeThresholdMetric, VOCRelativeThresholdMetric


def evaluate(metric, scores, labels, difficult=None):
    """Run a metric over ``(n, C)`` scores and 0/1/-1 labels; ``difficult`` as VOC's lists."""
    evaluator = Evaluator(metric)
    samples = []
    for index, (score, label) in enumerate(zip(scores, labels, strict=True)):
        sample = DataSample().set_pred_score(score)
        if difficult is None:
            sample.set_gt_score(label)
        else:
            sample.set_gt_label(label)
            sample.set_field(difficult[index], 'gt_label_difficult', field_type='metainfo')
        samples.append(sample)
    evaluator.process(samples)
    return evaluator.evaluate(len(samples))


def plain_micro(scores, labels, k):
    """Precision, recall and F1 of the tags in percent, one image and class at a time."""
    hits = tags = positives = 0
    for score, label in zip(scores.tolist(), labels.tolist(), strict=True):
        threshold = min(score) + k * (max(score) - min(score))
        chosen = [c for c, value in enumerate(score) if value > threshold]
        if not chosen:
            chosen = [score.index(max(score))]
        for c, truth in enumerate(label):
            if truth != -1:
                tags += c in chosen
                positives += truth
                hits += truth and c in chosen
    precision, recall = hits / max(tags, 1), hits / max(positives, 1)
    return {
        'precision': 100 * precision,
        'recall': 100 * recall,
        'f1-score': 100 * 2 * precision * recall / max(precision + recall, 1e-9),
    }


def micro(values):
    return {
        f'multi-label/{name}_micro': pytest.approx(value, abs=1e-4)
        for name, value in values.items()
    }


@pytest.mark.parametrize('k', [0.5, 0.1])
@pytest.mark.parametrize('seed', range(3))
def test_against_a_loop(k, seed):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(30, 7, generator=generator, dtype=torch.float64) ** 3
    labels = (torch.rand(30, 7, generator=generator) < 0.3).long()
    assert evaluate(RelativeThresholdMetric(k=k), scores, labels) == micro(
        plain_micro(scores, labels, k)
    )


def test_ignored_labels_against_a_loop():
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(30, 7, generator=generator, dtype=torch.float64)
    labels = torch.randint(-1, 2, (30, 7), generator=generator)
    labels[3] = -1  # as of an image that could not be read
    assert evaluate(RelativeThresholdMetric(), scores, labels) == micro(
        plain_micro(scores, labels, 0.5)
    )


def test_each_image_has_its_own_threshold():
    scores = torch.tensor([[0.9, 0.2, 0.0], [0.02, 0.0, 0.019]])
    labels = torch.tensor([[1, 0, 0], [1, 0, 1]])
    result = evaluate(RelativeThresholdMetric(), scores, labels)
    assert result['multi-label/precision_micro'] == result['multi-label/recall_micro'] == 100


def test_the_threshold_itself_is_no_tag():
    scores, labels = torch.tensor([[0.0, 0.5, 1.0]]), torch.tensor([[0, 0, 1]])
    result = evaluate(RelativeThresholdMetric(k=0.5), scores, labels)
    assert result['multi-label/precision_micro'] == 100


def test_equal_scores_give_one_tag():
    scores, labels = torch.full((1, 4), 0.25), torch.tensor([[1, 0, 0, 1]])
    result = evaluate(RelativeThresholdMetric(), scores, labels)
    assert result == micro({'precision': 100, 'recall': 50, 'f1-score': 200 / 3})


def test_per_class_values_on_request():
    scores = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    labels = torch.tensor([[1, 0], [0, 1], [0, 1]])
    result = evaluate(
        RelativeThresholdMetric(average=None, items=('recall',), prefix='own'), scores, labels
    )
    assert result == {'own/recall_classwise': [100, 50]}


# Image 0 has an easy 0 and a difficult 1; image 1 an easy 1, and a difficult object of the same
# class, which makes it no less easy; image 2 a difficult 2 only.
VOC_SCORES = torch.tensor([[1.0, 0.8, 0.0], [0.0, 1.0, 0.0], [0.0, 0.9, 1.0]])
VOC_LABELS = [[0], [1], []]
VOC_DIFFICULT = [[1], [1], [2]]


def test_voc_difficult_as_positive():
    # Tags 0 and 1; 1; 1 and 2: four of the five are right, and all four positives are found.
    result = evaluate(
        VOCRelativeThresholdMetric(difficult_as_positive=True),
        VOC_SCORES,
        VOC_LABELS,
        VOC_DIFFICULT,
    )
    assert result == micro({'precision': 80, 'recall': 100, 'f1-score': 800 / 9})


def test_voc_difficult_ignored():
    # Without the two difficult ones: two of three tags are right, both positives are found.
    result = evaluate(VOCRelativeThresholdMetric(), VOC_SCORES, VOC_LABELS, VOC_DIFFICULT)
    assert result == micro({'precision': 200 / 3, 'recall': 100, 'f1-score': 80})


def test_both_conventions_in_one_run():
    result = evaluate(
        [
            VOCAveragePrecision(difficult_as_positive=True, prefix='positive'),
            VOCRelativeThresholdMetric(difficult_as_positive=True, prefix='positive'),
            VOCAveragePrecision(prefix='ignored'),
            VOCRelativeThresholdMetric(prefix='ignored'),
        ],
        VOC_SCORES,
        VOC_LABELS,
        VOC_DIFFICULT,
    )
    assert result['positive/precision_micro'] == pytest.approx(80)
    assert result['ignored/precision_micro'] == pytest.approx(200 / 3)
    # Class 1: ranked 1.0 (easy), 0.9 (wrong), 0.8 (difficult).
    assert result['positive/mAP'] == pytest.approx(100 * (1 + (1 + 2 / 3) / 2 + 1) / 3)
    assert result['ignored/mAP'] == pytest.approx(100 * (1 + 1 + 0) / 3)


# MMPretrain's mAP, as the published figures need it


def test_average_precision_is_the_mean_precision_at_each_positive():
    scores = torch.tensor([[0.9], [0.8], [0.7], [0.6], [0.5]])
    labels = torch.tensor([[1], [0], [1], [0], [1]])
    assert evaluate(AveragePrecision(), scores, labels) == {
        'multi-label/mAP': pytest.approx(100 * (1 + 2 / 3 + 3 / 5) / 3)
    }


def test_average_precision_of_a_class_without_positives_is_0():
    scores = torch.tensor([[0.9, 0.3], [0.1, 0.7]])
    labels = torch.tensor([[1, 0], [0, 0]])
    assert evaluate(AveragePrecision(), scores, labels) == {'multi-label/mAP': pytest.approx(50)}
