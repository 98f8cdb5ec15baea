"""CWR against its crop-by-crop twin."""

import pytest
import torch

from mmtagclip.models import CWR
from mmtagclip.models.taggers.cwr import Candidates, crop_one_by_one, crop_together
from tests import twins


def random_case(seed, batch=1):
    """Score maps with a few peaks, random images and text."""
    generator = torch.Generator().manual_seed(seed)
    height, width, classes = torch.randint(2, 8, (3,), generator=generator).tolist()
    refined = torch.rand(batch, height * width, classes + 2, generator=generator) ** 4
    images = torch.randn(batch, 3, height * 16, width * 16, generator=generator)
    text = torch.nn.functional.normalize(torch.randn(classes + 2, 64, generator=generator), dim=-1)
    return refined, refined[..., :classes].amax(1), (height, width), images, text


@pytest.mark.parametrize('seed', range(8))
@pytest.mark.parametrize('stop', [False, True])
def test_agrees_with_the_loop_over_crops(encoder, seed, stop):
    refined, scores, grid, images, text = random_case(seed)
    threshold = (0.5, 0.1)[seed % 2]
    new = CWR(threshold, stop_at_empty_box=stop)(refined, scores, grid, images, text, encoder)
    plain = twins.cwr(
        encoder.visual,
        encoder.logit_scale,
        text,
        refined[0],
        scores[0],
        grid,
        images,
        threshold,
        stop,
    )
    torch.testing.assert_close(new[0], plain, atol=2e-5, rtol=0)


def test_an_empty_box_stops_the_later_candidates_only_if_asked(encoder):
    refined = torch.zeros(1, 9, 4)  # three classes and a background name on 3x3 patches
    refined[0, 0, 0] = refined[0, 8, 1] = refined[0, 4, 2] = 1  # the second in the last corner
    scores = refined[..., :3].amax(1)
    images = torch.randn(1, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    text = torch.eye(4, 64)
    sane = CWR()(refined, scores, (3, 3), images, text, encoder)
    published = CWR(stop_at_empty_box=True)(refined, scores, (3, 3), images, text, encoder)
    assert (sane != scores).tolist() == [[True, False, True]]
    assert (published != scores).tolist() == [[True, False, False]]
    for got, stop in ((sane, False), (published, True)):
        plain = twins.cwr(
            encoder.visual,
            encoder.logit_scale,
            text,
            refined[0],
            scores[0],
            (3, 3),
            images,
            0.5,
            stop,
        )
        torch.testing.assert_close(got[0], plain, atol=2e-5, rtol=0)


def test_batch_and_chunks_equal_single_images(encoder):
    refined, scores, grid, images, text = random_case(3, batch=3)
    together = CWR(0.1, max_crops=4)(refined, scores, grid, images, text, encoder)
    cwr = CWR(0.1)
    assert len(cwr.candidates(refined, scores, grid)) > 4
    for i in range(3):
        one = slice(i, i + 1)
        alone = cwr(refined[one], scores[one], grid, images[one], text, encoder)
        torch.testing.assert_close(together[one], alone, atol=2e-5, rtol=0)


def test_no_more_than_max_crops_are_encoded_at_once(encoder, monkeypatch):
    refined, scores, grid, images, text = random_case(3, batch=3)
    sizes = []
    encode = encoder.encode_class_token
    monkeypatch.setattr(
        encoder,
        'encode_class_token',
        lambda crops, mask: sizes.append(len(crops)) or encode(crops, mask),
    )
    cwr = CWR(0.1, max_crops=3)
    cwr(refined, scores, grid, images, text, encoder)
    assert max(sizes) == 3
    assert sum(sizes) == len(cwr.candidates(refined, scores, grid))


def test_patches_and_scores_at_the_limit_are_outside():
    """A patch halfway between a map's ends is no part of its mask, a class there no candidate."""
    refined = torch.tensor([[0.0, 1.0, 0.5], [1.0, 0.5, 0.75], [0.25, 0.5, 0.5]]).T
    maps = torch.zeros(1, 9, 3)
    maps[0, [0, 1, 3]] = refined
    one = CWR(threshold=0.75).candidates(maps, torch.tensor([[0.25, 0.75, 1.0]]), (3, 3))
    assert (one.image.tolist(), one.label.tolist()) == ([0], [2])
    two = CWR(threshold=0.5).candidates(maps, torch.tensor([[1.0, 0.75, 0.5]]), (3, 3))
    assert two.label.tolist() == [0, 1]
    assert two.box.tolist() == [[0, 1, 1, 2], [0, 0, 2, 1]]
    assert two.kept.all()
    assert two.mask.nonzero().tolist() == [[0, 0, 1], [1, 0, 0], [1, 1, 0]]


def test_crops_of_all_devices_are_those_of_one_box_after_the_other():
    """What runs on a GPU, on the CPU: to 1e-6, and never a pixel beside the box."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, 96, 160, generator=generator)
    boxes = [[0, 0, 1, 1], [2, 3, 6, 10], [5, 9, 6, 10], [0, 0, 6, 10], [1, 4, 3, 9]]
    count = len(boxes)
    mask = torch.ones(count, 6, 10, dtype=torch.bool)
    candidates = Candidates(
        torch.tensor([0, 1, 0, 1, 1]),
        mask[:, 0, 0].long(),
        torch.tensor(boxes),
        mask,
        mask[:, 0, 0],
    )
    for size in ((64, 64), (7, 50)):
        one, two = (cut(images, candidates, 16, size) for cut in (crop_one_by_one, crop_together))
        torch.testing.assert_close(two, one, atol=1e-6, rtol=0)
    beside = torch.full_like(images, torch.nan)
    beside[:, :, 16:48, 64:144] = images[:, :, 16:48, 64:144]
    assert torch.isfinite(crop_together(beside, candidates[4:], 16, (64, 64))).all()


def test_scores_that_are_all_equal_have_no_candidates(encoder):
    refined = torch.full((1, 4, 3), 0.25)
    scores = refined[..., :2].amax(1)
    new = CWR()(refined, scores, (2, 2), torch.zeros(1, 3, 32, 32), torch.eye(3, 64), encoder)
    assert torch.equal(new, scores)


@pytest.mark.parametrize('grid', [(1, 1), (1, 4), (3, 1)])
def test_small_grids_give_finite_scores(encoder, grid):
    generator = torch.Generator().manual_seed(0)
    refined = torch.rand(1, grid[0] * grid[1], 4, generator=generator)
    images = torch.randn(1, 3, grid[0] * 16, grid[1] * 16, generator=generator)
    new = CWR(0.0)(refined, refined[..., :3].amax(1), grid, images, torch.eye(4, 64), encoder)
    assert torch.isfinite(new).all()


def test_bad_arguments():
    with pytest.raises(ValueError, match='threshold in'):
        CWR(threshold=1.5)
    with pytest.raises(ValueError, match='max_crops >= 1'):
        CWR(max_crops=0)
