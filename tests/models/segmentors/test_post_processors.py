"""Post-processors: properties, and PAMR against a loop over pixels."""

import numpy as np
import pytest
import torch

from mmtagclip.models import PAMR, DenseCRF
from tests.conftest import picture


def plain_pamr(values, image, dilations, steps):
    """PAMR pixel by pixel."""
    image = image.astype(np.float64)
    height, width = image.shape[:2]

    def around(y, x):
        for d in dilations:
            for dy in (-d, 0, d):
                for dx in (-d, 0, d):
                    if dy or dx:
                        yield min(max(y + dy, 0), height - 1), min(max(x + dx, 0), width - 1)

    for _ in range(steps):
        new = np.zeros_like(values)
        for y in range(height):
            for x in range(width):
                places = list(around(y, x))
                colours = np.stack([image[p] for p in places])
                with_self = np.concatenate([colours, image[y, x][None].repeat(len(dilations), 0)])
                scale = 1e-8 + 0.1 * with_self.std(axis=0, ddof=1)
                likeness = (-np.abs(colours - image[y, x]) / scale).mean(axis=1)
                weights = np.exp(likeness - likeness.max())
                weights /= weights.sum()
                new[:, y, x] = sum(
                    w * values[:, p[0], p[1]] for w, p in zip(weights, places, strict=True)
                )
        values = new
    return values


def test_pamr_agrees_with_the_loop_over_pixels():
    image = picture(9, 12, 3)
    values = np.random.RandomState(0).rand(2, 9, 12)
    got = PAMR(iterations=2, dilations=(1, 3))(torch.from_numpy(values).float(), image)
    np.testing.assert_allclose(got.numpy(), plain_pamr(values, image, (1, 3), 2), atol=1e-5)


def test_pamr_has_the_published_steps():
    assert (PAMR().iterations, PAMR().dilations) == (10, (8, 16))


def test_pamr_on_a_uniform_image_and_a_single_pixel():
    values = torch.rand(2, 6, 7)
    assert torch.isfinite(PAMR()(values, np.full((6, 7, 3), 9, np.uint8))).all()
    alone = PAMR()(torch.tensor([[[0.25]]]), np.zeros((1, 1, 3), np.uint8))
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
