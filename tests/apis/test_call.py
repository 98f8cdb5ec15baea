"""Names of options that other programs use."""

import inspect

import pytest

from mmtagclip import SegInferencer, TagInferencer
from mmtagclip.apis.call import OTHER_NAMES, usual_name


def test_each_is_that_of_an_option():
    known = {
        name
        for kind in (TagInferencer, SegInferencer)
        for function in (kind.__init__, kind.__call__)
        for name in inspect.signature(function).parameters
    }
    assert set(OTHER_NAMES.values()) <= known
    assert not set(OTHER_NAMES) & known


@pytest.mark.parametrize(
    'option, name',
    [
        ('top_k', 'top'),
        ('--Conf=0.5', 'min_score'),
        ('negatives', 'background'),
        ('box-threshold', 'min_score'),
        ('ckpt', 'weights'),
        ('top', None),
        ('x', None),
    ],
)
def test_how_an_option_is_called_here(option, name):
    assert usual_name(option) == name
