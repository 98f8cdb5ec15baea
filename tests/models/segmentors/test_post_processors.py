"""Post-processors: properties, and PAMR and PAR against a loop over pixels."""

import numpy as np
import pytest
import torch

from mmtagclip.models import PAMR, PAR, DenseCRF
from tests.conftest import picture


def plain(kind, values, image, dilations, steps):
    """PAMR or PAR, pixel by pixel."""
    image = image.astype(np.float64)
    height, width = image.shape[:2]
    shifts = [(dy, dx) for d in dilations for dy in (-d, 0, d) for dx in (-d, 0, d) if dy or dx]

    def softmax(x):
        weights = np.exp(x - x.max())
        return weights / weights.sum()

    def weigh(colours, own):
        if kind is PAMR:
            with_self = np.concatenate([colours, own[None].repeat(len(dilations), 0)])
            scale = 1e-8 + 0.1 * with_self.std(axis=0, ddof=1)
            return softmax((-np.abs(colours - own) / scale).mean(axis=1))
        scale = 0.3 * (1e-8 + colours.std(axis=0, ddof=1))
        distance = np.hypot(*np.transpose(shifts))
        near = softmax(-((distance / distance.std(ddof=1) / 0.3) ** 2))
        return softmax(-(((colours - own) / scale) ** 2).mean(axis=1)) / 1.01 + near / 101

    for _ in range(steps):
        new = np.zeros_like(values)
        for y in range(height):
            for x in range(width):
                places = [
                    (min(max(y + dy, 0), height - 1), min(max(x + dx, 0), width - 1))
                    for dy, dx in shifts
                ]
                weights = weigh(np.stack([image[place] for place in places]), image[y, x])
                for weight, place in zip(weights, places, strict=True):
                    new[:, y, x] += weight * values[:, place[0], place[1]]
        values = new
    return values


@pytest.mark.parametrize('kind', [PAMR, PAR])
@pytest.mark.parametrize('rows', [None, 1, 2, 4, 7])
def test_agrees_with_the_loop_over_pixels(kind, rows, monkeypatch):
    """In one band or in several, whose weights are kept or computed again."""
    image = picture(9, 12, 3)
    values = np.random.RandomState(0).rand(2, 9, 12)
    expected = plain(kind, values, image, (1, 3), 2)
    values = torch.from_numpy(values).float()
    for kept in (True, False):
        refiner = kind(iterations=2, dilations=(1, 3))
        if rows is not None:
            monkeypatch.setattr(refiner, '_rows', lambda *given: rows)
        if not kept:
            monkeypatch.setattr(refiner, '_weight_bytes', lambda *given: 1e12)
        if rows is None and not kept:
            continue
        before = values.clone()
        np.testing.assert_allclose(refiner(values, image).numpy(), expected, atol=1e-5)
        assert torch.equal(values, before)


@pytest.mark.parametrize('kind', [PAMR, PAR])
def test_memory_is_bounded(kind, monkeypatch):
    """All that is made besides the image, the planes and the result, counted by torch."""
    size, planes = (300, 200), 9
    values = torch.rand(planes, *size)
    image = picture(*size, 1)
    refiner = kind(iterations=1, dilations=(2, 8), max_memory=3)
    assert refiner._rows(planes, *size) < size[0]
    with torch.profiler.profile(profile_memory=True) as profile:
        bounded = refiner(values, image)
    now = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == '[memory]':
            now += event.nbytes()
            peak = max(peak, now)
    result_and_pixels = 4 * (planes + 2 * 3) * size[0] * size[1]
    assert peak <= result_and_pixels + 3e6
    assert peak > result_and_pixels
    generous = kind(iterations=1, dilations=(2, 8))
    torch.testing.assert_close(generous(values, image), bounded)
    with pytest.raises(ValueError, match=rf'{kind.__name__} needs max_memory=\d+ \(MB\) or more'):
        kind(max_memory=0.1)(values, image)


@pytest.mark.parametrize('kind', [PAMR, PAR])
def test_bad_numbers(kind):
    for options in ({'iterations': 0}, {'dilations': ()}, {'dilations': (0,)}, {'max_memory': 0}):
        with pytest.raises(ValueError, match=f'{kind.__name__} needs iterations >= 1'):
            kind(**options)


def test_the_published_steps():
    assert (PAMR().iterations, PAMR().dilations) == (10, (8, 16))
    assert (PAR().iterations, PAR().dilations) == (20, (1, 2, 4, 8, 12, 24))


@pytest.mark.parametrize('kind', [PAMR, PAR])
def test_a_uniform_image_and_a_single_pixel(kind):
    values = torch.rand(2, 6, 7)
    assert torch.isfinite(kind()(values, np.full((6, 7, 3), 9, np.uint8))).all()
    alone = kind()(torch.tensor([[[0.25]]]), np.zeros((1, 1, 3), np.uint8))
    torch.testing.assert_close(alone, torch.tensor([[[0.25]]]))


def test_crf_follows_the_edges_of_the_image():
    pytest.importorskip('pydensecrf')
    image = np.zeros((40, 40, 3), np.uint8)
    image[:, 20:] = 255
    probabilities = torch.full((2, 40, 40), 0.3)
    probabilities[0, :, :23] = 0.7
    probabilities[1, :, 23:] = 0.7
    refined = DenseCRF()(probabilities, image)
    assert (refined[0] > 0.5).sum(dim=1).tolist() == [20] * 40
    torch.testing.assert_close(refined.sum(0), torch.ones(40, 40))


def test_crf_without_its_package_says_what_to_do(monkeypatch):
    def refuse(name, *args, **kwargs):
        raise ImportError(name)

    monkeypatch.setattr('importlib.import_module', refuse)
    with pytest.raises(ImportError, match=r"pip install -e '\.\[crf\]'"):
        DenseCRF()
