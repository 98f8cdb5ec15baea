"""Instances: their records, and the same read back."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mmtagclip.exports.instances import Instance, concept_fields, instances_of, read_instances
from mmtagclip.records import ImageRecord


def instance(tag='dog', score=0.5, rows=slice(1, 3), columns=slice(2, 6)):
    mask = np.zeros((5, 7), bool)
    mask[rows, columns] = True
    return Instance(tag, score, mask)


def test_a_record_of_instances_is_read_back():
    found = [instance(), instance('cat', 0.25, slice(0, 5), slice(6, 7))]
    first, second = (one.to_dict() for one in found)
    assert (first['tag'], first['score'], first['box']) == ('dog', 0.5, [2.0, 1.0, 4.0, 2.0])
    assert second['box'] == [6.0, 0.0, 1.0, 5.0]
    assert set(first) == {'tag', 'score', 'box', 'segmentation'}
    fields = concept_fields({'dog': 0.9}, found)
    assert fields == {'asked': {'dog': 0.9}, 'instances': [first, second]}
    assert read_instances(ImageRecord('a.jpg', size=(5, 7), more=fields)) == found
    assert concept_fields(None, []) == {'instances': []}
    assert concept_fields({}, None) == {'asked': {}}
    assert read_instances(ImageRecord('a.jpg', size=(5, 7))) is None
    assert read_instances(ImageRecord('a.jpg', more=fields)) is None


def test_instances_are_equal_only_if_all_of_them_is():
    one = instance()
    assert one == instance()
    assert hash(one) == hash(instance())
    for other in (instance('cat'), instance(score=0.6), instance(rows=slice(1, 4)), 'dog'):
        assert one != other


def test_instances_of_a_sample():
    masks = torch.stack([torch.from_numpy(instance(rows=slice(0, n)).mask) for n in (1, 2)])
    found = SimpleNamespace(
        labels=torch.tensor([1, 0]), scores=torch.tensor([0.5, 0.25]), masks=masks
    )
    first, second = instances_of({'pred_instances': found}, ['cat', 'dog'])
    assert first == instance(rows=slice(0, 1))
    assert second == instance('cat', 0.25, slice(0, 2))
    assert instances_of({}, ['cat']) is None


@pytest.mark.parametrize(
    'found, message',
    [
        ([{'tag': 'dog', 'score': 0.5}], 'a.jpg has damaged instances'),
        ([{'tag': 3, 'score': 0.5, 'segmentation': {'size': [2, 2], 'counts': [0, 4]}}], '"tag"'),
        ([{'tag': 'a', 'score': 0.5, 'segmentation': {'size': [2, 2], 'counts': [4]}}], 'no pixel'),
        ([{'tag': 'a', 'score': 0.5, 'segmentation': {'size': [3, 2], 'counts': [0, 6]}}], 'size'),
        (3, 'damaged'),
    ],
)
def test_damaged_instances_of_a_record(found, message):
    record = ImageRecord('a.jpg', size=(2, 2), more={'instances': found})
    with pytest.raises(ValueError, match=message):
        read_instances(record)
