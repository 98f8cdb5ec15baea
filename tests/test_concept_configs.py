"""The configs of segmentors that ask SAM 3: settings, words and figures as published."""

from copy import deepcopy
from functools import cache
from pathlib import Path

import pytest
import yaml
from mmengine.config import Config
from mmseg.registry import DATASETS

from mmtagclip.apis.model_zoo import needed_weights
from mmtagclip.clip import Vocabulary
from mmtagclip.registry import MODELS

CONFIGS = Path(__file__).parents[1] / 'configs'
DATA = (
    'voc21', 'pascal-context60', 'coco-object', 'voc20', 'pascal-context59', 'cocostuff171',
    'cityscapes', 'ade20k',
)  # fmt: skip
COUNTS = dict(zip(DATA, (20, 59, 80, 20, 59, 171, 19, 150), strict=True))
# ActiveSAM's table, in the order above.
FIGURES = {
    'segearth_ov3/segearth-ov3_sam3': (79.8, 53.4, 72.0, 96.8, 59.2, 42.8, 69.7, 37.6),
    'activesam/activesam_sam3': (83.8, 55.4, 72.0, 97.0, 60.1, 44.4, 69.7, 40.0),
    'tagclip_sam3/tagclip-sam3_vit-base-p16_openai': (None,) * 8,
}
CONFIDENCE = dict(zip(DATA, (0.5, 0.3, 0.5, 0.2, 0.3, 0.2, 0.3, 0.3), strict=True))
THRESHOLD = {'voc21': 0.4, 'pascal-context60': 0.1, 'coco-object': 0.4}
LEAVES = [(method, data) for method in FIGURES for data in DATA]


@cache
def load(method, data):
    """A config, which no test may change."""
    return Config.fromfile(CONFIGS / f'{method}_{data}.py')


@pytest.mark.parametrize('method, data', LEAVES)
def test_settings_are_the_published_ones(method, data):
    model = load(method, data).model
    segearth = 'segearth' in method
    assert model.type == 'mmtagclip.ConceptSegmentor'
    assert model.sam3 == {'type': 'mmtagclip.Sam3', 'model': 'hf-hub:facebook/sam3'}
    assert model.confidence == (CONFIDENCE[data] if segearth else 0.3)
    rule = None
    if data in THRESHOLD:
        kind = 'MaximumBackground' if segearth else 'MarginBackground'
        rule = {'type': f'mmtagclip.{kind}', 'threshold': THRESHOLD[data]}
    assert model.get('background_rule') == rule
    assert model.get('background', []) == (['background'] if rule else [])
    neighbours = [{'type': 'mmtagclip.NeighbourContext', 'count': 2}]
    assert model.get('context', []) == ([] if segearth else neighbours)
    preview = {'type': 'mmtagclip.Preview', 'side': 672, 'share': 0.2, 'most': 40}
    assert model.get('preview') == (preview if 'activesam' in method else None)
    weights = needed_weights(load(method, data))
    if 'tagclip' in method:
        assert weights == ['hf-hub:facebook/sam3', 'ViT-B-16-quickgelu (openai)']
        head = model.tagger.head
        assert (model.tags, head.cwr.type) == ('own', 'mmtagclip.CWR')
        assert head.threshold <= 0.2
        assert list(head.dmar.layers)
    else:
        assert weights == ['hf-hub:facebook/sam3']
        assert 'tagger' not in model


@pytest.mark.parametrize('method, data', LEAVES)
def test_classes_are_the_data_sets(method, data):
    cfg = load(method, data)
    names = Vocabulary.load(cfg.model.classes).names
    assert len(names) == COUNTS[data]
    dataset = cfg.test_dataloader.dataset
    theirs = DATASETS.get(dataset.type).METAINFO.get('classes')
    if theirs is None:
        theirs = Vocabulary.load(dataset.classes).names
    elif data in THRESHOLD:
        theirs = theirs[1:]
    assert [one.replace(' ', '') for one in names] == [one.replace(' ', '') for one in theirs]
    if 'tagger' in cfg.model:
        assert len(Vocabulary.load(cfg.model.tagger.classes)) == len(names)


@pytest.mark.parametrize(
    'source, words',
    [
        ('seg_voc_activesam', {'aeroplane': 'airplane', 'diningtable': 'table',
                               'pottedplant': 'potted plant', 'tvmonitor': 'tv monitor',
                               'motorbike': 'motorcycle'}),
        ('seg_coco_activesam', {'tie': 'necktie', 'remote': 'remote control',
                                'mouse': 'computer mouse', 'dining table': 'dining table'}),
        ('seg_ade20k_activesam', {'monitor': 'computer monitor', 'ashcan': 'trash can'}),
        ('seg_cocostuff_activesam', {'wall-brick': 'brick wall', 'sky-other': 'sky-other'}),
        ('seg_pascal_context_activesam', {'bedclothes': 'bed clothes'}),
        ('seg_cityscapes_activesam', {'traffic light': 'traffic light', 'vegetation': 'tree'}),
        ('seg_cityscapes_segearth', {'traffic light': 'trafficlight', 'terrain': 'grass'}),
        ('seg_voc_segearth', {'boat': 'boat', 'aeroplane': 'aeroplane'}),
    ],
)  # fmt: skip
def test_words(source, words):
    read = Vocabulary.load(source)
    first = {name: row[0] for name, row in zip(read.names, read.phrases, strict=True)}
    assert {name: first[name] for name in words} == words


@pytest.mark.parametrize('method', FIGURES)
def test_figures_are_the_published_ones(method):
    folder = method.partition('/')[0]
    models = yaml.safe_load((CONFIGS / folder / 'metafile.yml').read_text())['Models']
    assert len(models) == 8
    found = {}
    for model in models:
        for result in model.get('Results', ()):
            ((metric, value),) = result['Metrics'].items()
            assert metric == (
                'mIoU (reported by ActiveSAM)' if 'earth' in method else 'mIoU (paper)'
            )
            found[model['Name']] = value
    name = method.partition('/')[2]
    assert found == {
        f'{name}_{data}': value
        for data, value in zip(DATA, FIGURES[method], strict=True)
        if value is not None
    }


@pytest.mark.parametrize('method', FIGURES)
def test_images_keep_their_size_and_are_flipped(method):
    cfg = load(method, 'voc21')
    kinds = [step.type for step in cfg.test_pipeline]
    assert kinds == ['LoadImageFromFile', 'mmtagclip.KeepImage', 'LoadAnnotations', 'PackSegInputs']
    assert cfg.test_dataloader.dataset.pipeline == cfg.test_pipeline
    transforms = cfg.tta_pipeline[-1].transforms
    assert [step.type for step in transforms[0]] == ['RandomFlip'] * 2
    assert [rows[0].type for rows in transforms[1:]] == ['LoadAnnotations', 'PackSegInputs']
    assert cfg.tta_model.type == 'mmtagclip.TrainingFreeTTA'
    assert cfg.visualizer.type == 'mmtagclip.MaskVisualizer'


@pytest.mark.parametrize('method', [method for method in FIGURES if 'tagclip' not in method])
def test_models_are_built(method, sam3_config):
    model = deepcopy(load(method, 'cityscapes').model)
    model.sam3 = sam3_config
    built = MODELS.build(model)
    assert len(built.names.phrases) == 23  # with four synonyms
    assert built.dataset_meta['classes'] == Vocabulary.load('cityscapes').names
