"""DMAR against its class-by-class twin, and where the published program is undefined."""

import pytest
import torch

from mmtagclip.clip import AttentionStatistics
from mmtagclip.models import DMAR
from tests import twins


def statistics(maps, layers):
    """Attention statistics of a batch of maps ``(B, L, N, N)``."""
    votes = torch.stack([twins.votes(one) for one in maps]).to(torch.uint8)
    return AttentionStatistics(votes, {tuple(layers): maps[:, list(layers)].mean(1)})


def random_maps(generator, batch, grid, layers=12):
    count = grid[0] * grid[1]
    return (3 * torch.randn(batch, layers, count, count, generator=generator)).softmax(-1)


@pytest.mark.parametrize('seed', range(12))
def test_agrees_with_the_loop_over_classes(seed):
    generator = torch.Generator().manual_seed(seed)
    height, width, classes, batch = torch.randint(2, 9, (4,), generator=generator).tolist()
    grid, layers = (height, width), (8, 9, 10)
    maps = random_maps(generator, batch, grid)
    scores = (4 * torch.randn(batch, height * width, classes, generator=generator)).softmax(-1)
    minimum = int(torch.randint(1, 7, (1,), generator=generator))
    refined = DMAR(layers, minimum)(scores, statistics(maps, layers), grid)
    for image in range(batch):
        plain = twins.dmar(scores[image], maps[image], layers, minimum, grid)
        torch.testing.assert_close(refined[image], plain, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize('grid', [(1, 1), (1, 7), (6, 1), (2, 2)])
def test_small_grids_give_finite_scores(grid):
    generator = torch.Generator().manual_seed(0)
    maps = random_maps(generator, 1, grid)
    scores = torch.rand(1, grid[0] * grid[1], 3, generator=generator)
    refined = DMAR((8, 9, 10))(scores, statistics(maps, (8, 9, 10)), grid)
    assert torch.isfinite(refined).all()


def test_a_single_patch_keeps_the_order_of_its_scores():
    scores = torch.tensor([[[0.2, 0.5, 0.3]]])
    maps = torch.full((1, 12, 1, 1), 0.4)
    refined = DMAR((8, 9, 10))(scores, statistics(maps, (8, 9, 10)), (1, 1))
    torch.testing.assert_close(refined, 0.4 * scores)


@pytest.mark.parametrize('grid', [(1, 5), (5, 1)])
def test_a_row_or_column_scores_where_its_boxes_are(grid):
    scores = torch.tensor([0.1, 0.1, 0.9, 0.1, 0.1]).view(1, 5, 1)
    maps = (torch.eye(5) * 0.9).expand(1, 12, 5, 5)
    refined = DMAR((8, 9, 10))(scores, statistics(maps, (8, 9, 10)), grid)
    torch.testing.assert_close(refined[0, :, 0], torch.tensor([0, 0, 0.81, 0, 0]))


def test_a_constant_map_is_masked_nowhere():
    maps = (torch.eye(6) * 0.5).expand(1, 12, 6, 6)
    scores = torch.full((1, 6, 2), 0.5)
    refined = DMAR((8, 9, 10))(scores, statistics(maps, (8, 9, 10)), (2, 3))
    torch.testing.assert_close(refined, 0.5 * scores)


def test_one_class():
    generator = torch.Generator().manual_seed(1)
    maps = random_maps(generator, 1, (3, 4))
    refined = DMAR((0,), 2)(torch.ones(1, 12, 1), statistics(maps, (0,)), (3, 4))
    assert refined.shape == (1, 12, 1)
    assert torch.isfinite(refined).all()


def test_bad_arguments():
    with pytest.raises(ValueError, match='at least one layer'):
        DMAR(())
    with pytest.raises(ValueError, match='votes >= 1'):
        DMAR((8,), votes=0)
    with pytest.raises(ValueError, match='with votes'):
        DMAR((8,))(torch.ones(1, 4, 1), AttentionStatistics(), (2, 2))
    with pytest.raises(KeyError, match=r'\(8,\)'):
        DMAR((8,))(torch.ones(1, 4, 1), AttentionStatistics(torch.ones(1, 4, 4)), (2, 2))
