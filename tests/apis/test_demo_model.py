"""The bundled demo model, given images that it does not know."""

import warnings
from copy import deepcopy

import numpy as np
import pytest
import torch

from mmtagclip.apis import TagInferencer
from mmtagclip.apis.demo_model import are_demo_scenes, demo_notice, is_demo_model
from mmtagclip.apis.inputs import list_images
from mmtagclip.cli.common import SEGMENTOR, TAGGER
from tests.apis.conftest import SCENES
from tests.conftest import picture


def test_the_model_is_found_by_its_weights(demo_tagger, demo_segmentor):
    assert is_demo_model(demo_tagger.model)
    assert is_demo_model(demo_segmentor.model)
    other = deepcopy(demo_tagger.model)
    with torch.no_grad():
        other.encoder.visual.proj[0, 0] += 1
    assert not is_demo_model(other)
    assert not is_demo_model(torch.nn.Linear(1, 1))


def test_scenes(photos):
    assert are_demo_scenes(list_images([SCENES / '000001.jpg', SCENES / '000003.jpg']))
    assert not are_demo_scenes(list_images([SCENES / '000001.jpg', photos / 'b.jpg']))
    assert not are_demo_scenes(list_images(picture(32, 32, 0)))


def test_python_warns_once_and_not_of_scenes(demo_tagger):
    one = TagInferencer(demo_tagger.model, show_progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        one(SCENES / '000040.jpg')
    with pytest.warns(UserWarning, match='knows only 50 pictograms, .* TagInferencer') as caught:
        one([np.zeros((32, 32, 3), np.uint8)] * 2)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        one(np.zeros((32, 32, 3), np.uint8))


def test_the_real_models_are_those_of_the_command_line(demo_tagger, demo_segmentor):
    assert (demo_tagger.real_model, demo_segmentor.real_model) == (TAGGER, SEGMENTOR)
    assert demo_notice('this').endswith('for photographs start with: this')
