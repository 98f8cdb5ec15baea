"""Tags and masks of one image in one drawing."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mmtagclip.apis import list_images
from mmtagclip.visualization import draw_overview
from tests.processes import ROOT

SCENE = ROOT / 'demo/data/JPEGImages/000040.jpg'


@pytest.fixture(scope='module')
def results(demo_tagger, demo_segmentor):
    (image,) = list_images(SCENE)
    (tags,) = demo_tagger(SCENE, score_maps=True)
    (masks,) = demo_segmentor(SCENE)
    return image.read(), tags, masks


def test_masks_are_in_a_column_that_is_as_high_as_the_tags(results):
    image, tags, masks = results
    one, two = (
        draw_overview(image, tags, dict.fromkeys(titles, masks)) for titles in ('a', ('a', 'b'))
    )
    assert one.shape[0] == two.shape[0]
    assert 1200 < two.shape[1] < one.shape[1]
    column = two[:, 1200:]
    rows = (column < 250).any((1, 2))
    assert rows[: len(rows) // 2].any()
    assert rows[len(rows) // 2 :].any()


def test_masks_of_a_tall_image_are_in_a_row(results):
    _, tags, masks = results
    image = np.array(Image.new('RGB', (60, 400), (40, 90, 160)))
    tall = replace(masks, mask=np.zeros((400, 60), np.uint8), size=(400, 60))
    drawn = draw_overview(image, tags, {'a': tall, 'b': tall})
    below = drawn[drawn.shape[0] // 2, 1200:]
    starts = np.diff((below < 250).any(1).astype(int)) == 1
    assert starts.sum() >= 1
    assert drawn.shape[0] < 1200


def test_no_masks_are_refused(results):
    image, tags, _ = results
    with pytest.raises(ValueError, match='at least one model'):
        draw_overview(image, tags, {})
