"""Affinity refinement of all CAMs at once against one at a time."""

import pytest
import torch

from mmtagclip.models import AffinityRefinement
from tests import twins


@pytest.mark.parametrize('seed', range(8))
@pytest.mark.parametrize('threshold', [0.4, 0.7])
def test_agrees_with_one_cam_at_a_time(seed, threshold):
    generator = torch.Generator().manual_seed(seed)
    height, width, tags = torch.randint(2, 9, (3,), generator=generator).tolist()
    count = height * width
    attention = (3 * torch.randn(count, count, generator=generator)).softmax(-1)
    cams = torch.rand(tags, count, generator=generator)
    cams = cams / cams.amax(1, keepdim=True)
    refined = AffinityRefinement((4,), threshold)(cams, attention, (height, width))
    for one, plain in zip(refined, cams, strict=True):
        expected = twins.refine_cam(plain, attention, (height, width), threshold)
        torch.testing.assert_close(one, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize('grid', [(1, 1), (1, 5), (5, 1), (2, 2)])
def test_small_grids_are_finite(grid):
    count = grid[0] * grid[1]
    attention = torch.rand(count, count, generator=torch.Generator().manual_seed(0))
    refined = AffinityRefinement((4,), 0.4)(torch.eye(count)[:1], attention, grid)
    assert torch.isfinite(refined).all()


def test_rows_and_columns_that_sum_to_zero_stay_zero():
    attention = torch.rand(6, 6, generator=torch.Generator().manual_seed(0))
    attention[2] = attention[:, 2] = 0
    refiner = AffinityRefinement((4,), 0.4)
    affinity = refiner.affinity(attention)
    assert torch.isfinite(affinity).all()
    assert affinity[2].abs().sum() == 0
    assert torch.isfinite(refiner(torch.rand(2, 6), attention, (2, 3))).all()
    assert torch.isfinite(refiner(torch.rand(2, 6), torch.zeros(6, 6), (2, 3))).all()


def test_the_given_map_is_not_changed():
    attention = torch.rand(4, 4)
    before = attention.clone()
    AffinityRefinement((4,), 0.4)(torch.rand(1, 4), attention, (2, 2))
    assert torch.equal(attention, before)


@pytest.mark.parametrize(('value', 'inside'), [(127.5, False), (128.5, True)])
def test_a_cam_at_the_limit_is_outside_its_boxes(value, inside):
    """The limit is that of 8-bit CAMs: 0.5 of 255 is 127, and 127 is not above it."""
    cams = torch.zeros(1, 5, 5)
    cams[0, 0, 0], cams[0, 3, 3] = 1, value / 255
    itself = torch.eye(25)  # spreads nothing, so that the boxes alone decide
    refined = AffinityRefinement((4,), 0.5)(cams.flatten(1), itself, (5, 5)).view(5, 5)
    assert refined[0, 0] > 0.99
    assert (refined[3, 3] > 0) == inside
    assert (refined > 0).sum() == 1 + inside


@pytest.mark.parametrize('threshold', [0, 1])
def test_thresholds_at_the_ends_of_their_range(threshold):
    """At 0 all that is not zero is inside a box, at 1 nothing is."""
    cams = torch.zeros(1, 5, 5)
    cams[0, 0, 0], cams[0, 2, 2], cams[0, 0, 3] = 1, 0.5, 0.01
    refined = AffinityRefinement((4,), threshold)(cams.flatten(1), torch.eye(25), (5, 5))
    assert (refined > 0).sum() == (0 if threshold else 3)


def test_bad_arguments():
    with pytest.raises(ValueError, match='at least one layer'):
        AffinityRefinement((), 0.4)
    with pytest.raises(ValueError, match='box_threshold in'):
        AffinityRefinement((4,), 40)
    with pytest.raises(ValueError, match='box_threshold in'):
        AffinityRefinement((4,), -0.1)
    for layers, weights in (((4, 5), (1,)), (None, (1,)), ((4, 5), (1, 0))):
        with pytest.raises(ValueError, match='a positive layer_weight for each of its layers'):
            AffinityRefinement(layers, layer_weights=weights)


def test_weighted_layers(encoder):
    """The sets that are asked of the encoder, and their mean, in any order of the layers."""
    refiner = AffinityRefinement((7, 4, 5), layer_weights=(3, 1, 3))
    features = encoder(torch.rand(2, 3, 48, 32), [*refiner.layer_sets, (4,), (5,), (7,)])
    four, five, seven = (features.attention.mean((layer,)) for layer in (4, 5, 7))
    expected = (four + 3 * five + 3 * seven) / 7
    torch.testing.assert_close(refiner.mean(features.attention), expected)
    assert AffinityRefinement((4, 5)).layer_sets == {(4, 5): 1}
