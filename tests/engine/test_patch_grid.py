"""The patch size of a model comes to its pipelines."""

from types import SimpleNamespace

import numpy as np
import pytest
from mmcv import transforms

from mmtagclip.datasets import ResizeToPatchGrid
from mmtagclip.engine import PatchGridHook


def runner(model, *pipeline):
    loader = SimpleNamespace(dataset=SimpleNamespace(pipeline=SimpleNamespace(transforms=pipeline)))
    loop = SimpleNamespace(dataloader=loader)
    return SimpleNamespace(model=model, _train_loop=None, _val_loop={}, _test_loop=loop)


@pytest.mark.parametrize('wrapped', [False, True])
def test_pipelines_get_the_patch_size_of_the_model(wrapped):
    model = SimpleNamespace(encoder=SimpleNamespace(patch_size=14))
    if wrapped:  # as test-time augmentation wraps it
        model = SimpleNamespace(module=model)
    inner = {'type': 'mmtagclip.ResizeToPatchGrid', 'max_side': 100}
    both = transforms.TestTimeAug([[dict(inner)], [dict(inner, patch_size=32)]])
    open_one, own = ResizeToPatchGrid(max_side=100), ResizeToPatchGrid(16)
    PatchGridHook().before_run(runner(model, open_one, own, both))
    assert (open_one.patch_size, own.patch_size) == (14, 16)
    ((first, second),) = (chain.transforms for chain in both.subroutines)
    assert (first.patch_size, second.patch_size) == (14, 32)
    image = np.zeros((20, 250, 3), np.uint8)
    assert open_one.transform({'img': image})['img'].shape == (14, 112, 3)


def test_models_without_an_encoder_keep_the_common_size():
    step = ResizeToPatchGrid()
    PatchGridHook().before_run(runner(SimpleNamespace(), step))
    assert step.patch_size is None
    assert step.transform({'img': np.zeros((20, 20, 3), np.uint8)})['img'].shape == (32, 32, 3)
