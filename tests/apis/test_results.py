"""Results and what they convert to."""

import json

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from mmtagclip.apis import SegResult, TagResult
from mmtagclip.models import relative_threshold

CLASSES = ('dog', 'traffic light', 'Äpfel')
SCORES = np.array([0.2, 0.9, 0.6], np.float32)
MASK = np.array([[0, 0, 2, 2, 2], [1, 0, 2, 2, 255]], np.uint8)


def tags(**changes):
    return TagResult(
        **{
            'image': 'a.jpg',
            'size': (4, 5),
            'classes': CLASSES,
            'scores': SCORES,
            'labels': np.array([1, 2]),
            **changes,
        }
    )


def masks(**changes):
    return SegResult(
        **{
            'image': 'a.jpg',
            'size': (2, 5),
            'classes': ('background', 'dog', 'cat'),
            'palette': ((0, 0, 0), (255, 0, 0), (0, 255, 0)),
            'mask': MASK,
            'tags': {'cat': 0.9, 'dog': None},
            'background': 0,
            **changes,
        }
    )


def test_tags_come_from_the_highest_to_the_lowest():
    assert list(tags().tags) == ['traffic light', 'Äpfel']
    assert tags().to_dict() == {
        'image': 'a.jpg',
        'tags': ['traffic light', 'Äpfel'],
        'scores': pytest.approx([0.9, 0.6]),
    }
    assert 'Äpfel' in tags().to_json()
    assert json.loads(tags().to_json()) == tags().to_dict()
    assert tags().rows() == [
        {'image': 'a.jpg', 'tag': 'traffic light', 'score': pytest.approx(0.9)},
        {'image': 'a.jpg', 'tag': 'Äpfel', 'score': pytest.approx(0.6)},
    ]


def test_all_scores():
    result = tags(all_scores=True)
    scores = {'dog': 0.2, 'traffic light': 0.9, 'Äpfel': 0.6}
    assert result.record.class_scores == result.to_dict()['class_scores'] == pytest.approx(scores)
    assert list(result.to_dict()['class_scores']) == list(CLASSES)
    assert [(row['class'], row['is_tag']) for row in result.rows()] == [
        ('dog', False),
        ('traffic light', True),
        ('Äpfel', True),
    ]
    assert [row['score'] for row in result.rows()] == pytest.approx([0.2, 0.9, 0.6])
    bad = tags(labels=np.zeros(0, np.int64), all_scores=True, error='gone')
    assert bad.to_dict() == {'image': 'a.jpg', 'error': 'gone'}
    assert bad.rows() == []
    assert masks(class_scores={'dog': 0.5, 'cat': 0.9}).to_dict()['class_scores'] == {
        'dog': 0.5,
        'cat': 0.9,
    }


def test_another_rule_keeps_what_is_not_given():
    none = tags().with_rule(min_score=0.95)
    assert none.tags == {}
    assert none.record.tags == ()
    assert none.with_threshold(0.1).tags == {}
    assert list(tags().with_rule(min_score=0.5, top=1).tags) == ['traffic light']
    assert list(tags().with_rule(threshold=0.0, top=5).tags) == ['traffic light', 'Äpfel']


@pytest.mark.parametrize('k', [0.0, 0.1, 0.5, 0.9, 1.0])
def test_another_threshold_is_that_of_the_head(k):
    expected = relative_threshold(torch.from_numpy(SCORES), k).nonzero().flatten()
    assert tags().with_threshold(k).labels.tolist() == expected.tolist()


def test_an_image_that_could_not_be_read():
    bad = tags(labels=np.zeros(0, np.int64), scores=np.zeros(3, np.float32), error='gone')
    assert bad.to_dict() == {'image': 'a.jpg', 'error': 'gone'}
    assert bad.with_threshold(0.0).tags == {}
    assert bad.rows() == []
    assert bad.to_datasample().load_error == 'gone'
    bad = masks(mask=np.zeros((0, 0), np.uint8), size=(0, 0), tags={}, error='gone')
    assert bad.to_dict() == {'image': 'a.jpg', 'error': 'gone'}
    assert bad.shares == {}


def test_data_samples_hold_the_same():
    sample = tags(score_maps=np.ones((3, 2, 2), np.float32)).to_datasample()
    assert sample.tags == ['traffic light', 'Äpfel']
    assert torch.equal(sample.pred_score, torch.from_numpy(SCORES))
    assert sample.score_maps.shape == (3, 2, 2)
    sample = masks().to_datasample()
    assert np.array_equal(sample.pred_sem_seg.data[0].numpy(), MASK)


def test_masks_convert_to_run_lengths_and_rows():
    result = masks()
    assert result.labels == [0, 1, 2]
    assert result.shares == pytest.approx({'cat': 0.5, 'background': 0.3, 'dog': 0.1})
    record = json.loads(result.to_json())
    assert [one['tag'] for one in record['masks']] == ['cat', 'dog']
    for one in record['masks']:
        assert np.array_equal(coco_mask.decode(one['segmentation']), result.binary_mask(one['tag']))
    assert record['masks'][0]['box'] == [2, 0, 3, 2]
    assert [row['tag'] for row in result.rows()] == ['cat', 'background', 'dog']
    with pytest.raises(KeyError, match='bird'):
        result.binary_mask('bird')


@pytest.mark.parametrize(
    'changes, message',
    [
        ({'scores': np.zeros(2, np.float32)}, r'scores must be \(3,\)'),
        ({'labels': np.array([3])}, 'indices of 3 classes'),
        ({'score_maps': np.zeros((2, 4, 4), np.float32)}, r'score_maps must be \(3, h, w\)'),
    ],
)
def test_shapes_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        tags(**changes)


@pytest.mark.parametrize(
    'changes, message',
    [
        ({'size': (5, 2)}, r'mask must be \(5, 2\)'),
        ({'palette': ()}, '3 classes, but 0 colours'),
        ({'mask': MASK + 1}, 'label 3, but there are 3'),
    ],
)
def test_masks_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        masks(**changes)


def test_thresholds_outside_the_range_are_refused():
    with pytest.raises(ValueError, match='threshold must be in'):
        tags().with_threshold(1.5)
