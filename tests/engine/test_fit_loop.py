"""FitLoop in one process; tests/tools/test_fit.py runs it as a user does."""
import logging
from types import SimpleNamespace

import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.runner import load_checkpoint
from mmseg.structures import SegDataSample
from torch.utils.data import DataLoader

from mmtagclip.engine import FitLoop
from mmtagclip.registry import MODELS
from tests.conftest import picture
from tests.models.test_piaa import config

IMAGES = 6


@pytest.fixture(scope='module')
def segmentor_config(encoder_config):
    return {'type': 'mmtagclip.CLSSeg', 'tagger': config(encoder_config),
            'affinity': {'type': 'mmtagclip.AffinityRefinement', 'layers': (8, 9),
                         'box_threshold': 0.4}}


def loader(unreadable=()):
    def sample(seed):
        meta = {'ori_shape': (64, 80), 'img_path': f'{seed}.jpg'}
        if seed in unreadable:
            meta['load_error'] = 'damaged'
        image = torch.from_numpy(picture(64, 80, seed).copy()).permute(2, 0, 1)
        return {'inputs': image, 'data_samples': SegDataSample(metainfo=meta)}

    return DataLoader([sample(seed) for seed in range(IMAGES)], collate_fn=pseudo_collate)


def fit(model, data, folder):
    called = []
    runner = SimpleNamespace(model=model, work_dir=str(folder), logger=logging.getLogger('fit'),
                             call_hook=lambda name, **kwargs: called.append(name))
    FitLoop(runner, data).run()
    return called


def test_the_tagger_of_a_segmentor_is_fitted(segmentor_config, tmp_path):
    segmentor = MODELS.build(segmentor_config)
    called = fit(segmentor, loader(), tmp_path)
    assert called.count('after_train_iter') == IMAGES
    state = torch.load(tmp_path / 'piaa.pth', weights_only=True)['state_dict']
    assert set(state) == {f'tagger.head.scorer.{key}' for key in ('weight', 'bias', 'identity')}
    other = MODELS.build(segmentor_config)
    load_checkpoint(other, str(tmp_path / 'piaa.pth'), strict=True)
    data = next(iter(loader()))
    one, = segmentor.test_step(data)
    two, = other.test_step(next(iter(loader())))
    assert one.tags
    assert torch.equal(one.pred_sem_seg.data, two.pred_sem_seg.data)


def test_images_that_can_not_be_read_are_left_out(segmentor_config, tmp_path):
    whole, part = MODELS.build(segmentor_config), MODELS.build(segmentor_config)
    fit(whole, loader(), tmp_path)
    fit(part, loader(unreadable=(2,)), tmp_path)
    assert not torch.equal(whole.tagger.head.scorer.weight, part.tagger.head.scorer.weight)
    nothing = MODELS.build(segmentor_config)
    with pytest.raises(ValueError, match='can not be fitted to 0 patches'):
        fit(nothing, loader(unreadable=range(IMAGES)), tmp_path)


def test_classes_without_a_patch_are_named(segmentor_config, tmp_path, caplog):
    segmentor = MODELS.build(segmentor_config)
    with caplog.at_level(logging.WARNING, logger='fit'):
        fit(segmentor, loader(), tmp_path)
    assert ('Classes that won no patch, so that their text features are their means: cat'
            in caplog.text)
