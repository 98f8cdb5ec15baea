"""SAM's attention against the arrays of the released Trident, and what is refused."""


import numpy as np
import pytest
import torch

from mmtagclip.regions.sam import neighbours
from tests.golden import GOLDEN

TRIDENT = np.load(GOLDEN / 'regions' / 'trident.npz')


def tensor(array):
    return torch.from_numpy(np.asarray(array))


@pytest.mark.parametrize('factor', [0.0, 1.2, 3.0])
@pytest.mark.parametrize('refine', [True, False])
def test_neighbours(factor, refine):
    values = tensor(np.random.RandomState(91).standard_normal((2, 42, 8))).float()
    attention = tensor(np.random.RandomState(92).standard_normal((2, 42, 42))).float().softmax(-1)
    expected = tensor(TRIDENT[f'threshold/{factor}/{refine}'])
    found = neighbours(values, attention, factor, None if refine else 0.6)
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=0)
