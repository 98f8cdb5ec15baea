"""The segmentor behind MMSegmentation's inferencers, and its memory on a large image."""

import sys
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import DefaultScope, init_default_scope
from mmseg.apis import MMSegInferencer, inference_model, init_model
from PIL import Image

from mmtagclip.clip import Vocabulary
from mmtagclip.registry import MODELS
from tests.conftest import picture

ROOT = Path(__file__).parents[3]
CLASSES = ('background', *Vocabulary.load('voc').names)


@pytest.fixture
def cfg(encoder_config, monkeypatch):
    """The VOC config with tiny weights; mmseg's change of the default scope is undone."""
    monkeypatch.setattr(DefaultScope, '_instance_dict', DefaultScope._instance_dict.copy())
    cfg = Config.fromfile(ROOT / 'configs/cls_seg/cls-seg_vit-base-p16_openai_voc12.py')
    cfg.model.tagger.encoder = encoder_config
    cfg.model.tagger.templates = cfg.model.templates = ['a photo of a {}.']
    return cfg


@pytest.fixture
def image_path(tmp_path):
    path = tmp_path / 'image.png'
    Image.fromarray(picture(50, 71, 1)).save(path)
    return path


def test_mmseg_inferencer(cfg, image_path, tmp_path):
    inferencer = MMSegInferencer(cfg, device='cpu')
    assert inferencer.model.dataset_meta['classes'] == CLASSES
    from_file = inferencer(str(image_path), return_datasamples=True)
    from_array = inferencer(picture(50, 71, 1)[..., ::-1].copy(), return_vis=True)
    mask = from_file.pred_sem_seg.data[0].numpy()
    assert mask.shape == (50, 71)
    assert {CLASSES[label] for label in np.unique(mask)} <= {'background', *from_file.tags}
    assert (from_array['predictions'] == mask).all()
    # Drawn in the segmentor's colours, 900 pixels wide, with the legend below it.
    assert inferencer.visualizer.dataset_meta == inferencer.model.dataset_meta
    height, width, _ = from_array['visualization'].shape
    assert height == round(50 * 900 / 71) + 126
    assert width > 900


def test_init_model_and_inference_model(cfg, image_path):
    model = init_model(cfg, device='cpu')
    assert model.dataset_meta['classes'] == CLASSES
    sample = inference_model(model, str(image_path))
    assert sample.pred_sem_seg.shape == (50, 71)
    assert sample.tags


def test_names_stay_and_colours_may_change(cfg):
    model = MODELS.build(cfg.model)
    colours = model.dataset_meta['palette']
    assert colours[:2] == [[0, 0, 0], [0, 114, 178]]
    assert len({tuple(colour) for colour in colours}) == len(CLASSES)
    model.dataset_meta = {'classes': ('road', 'pavement'), 'palette': [[1, 1, 1], [2, 2, 2]]}
    assert model.dataset_meta == {'classes': CLASSES, 'palette': colours}
    model.dataset_meta = {'classes': CLASSES, 'palette': colours[::-1]}
    assert model.dataset_meta['palette'] == colours[::-1]


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='memory is read from /proc')
def test_memory_on_a_large_image(cfg, tmp_path, monkeypatch):
    """Neither 12 planes of 6000x4000 pixels nor 12 maps of 4704x4704 patches are held."""
    monkeypatch.syspath_prepend(ROOT / 'tools/analysis_tools')
    from measuring import peak_memory

    path = tmp_path / 'large.jpg'
    Image.fromarray(picture(40, 60, 0)).resize((6000, 4000)).save(path)
    cfg.model.tags = 'given'
    cfg.test_pipeline = [t for t in cfg.test_pipeline if t.type != 'LoadAnnotations']
    cfg.test_pipeline[-1].meta_keys += ('tag_labels',)
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    results = {'img_path': str(path), 'seg_fields': [], 'tag_labels': list(range(12))}
    data = pseudo_collate([Compose(cfg.test_pipeline)(results)])
    samples = []
    grown = peak_memory(lambda: samples.extend(model.test_step(data)))
    assert samples[0].pred_sem_seg.shape == (4000, 6000)
    assert grown < 2**30
