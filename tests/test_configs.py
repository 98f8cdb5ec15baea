import json
import re
from functools import cache
from pathlib import Path

import open_clip
import pytest
import torch
import yaml
from mmengine import registry as root_registries
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmpretrain.datasets.categories import VOC2007_CATEGORIES
from mmpretrain.structures import DataSample
from mmseg.registry import DATASETS
from mmseg.structures import SegDataSample
from open_clip.factory import get_model_config
from open_clip.pretrained import get_pretrained_cfg

from mmtagclip.clip import Vocabulary, load_templates
from mmtagclip.clip.pooling import RELEASED
from mmtagclip.clip.published import PUBLISHED as FROM_PUBLISHERS
from mmtagclip.clip.vocabulary import load_integers
from mmtagclip.registry import MODELS

CONFIGS = Path(__file__).parents[1] / 'configs'
LEAVES = sorted(
    path.relative_to(CONFIGS).as_posix()
    for path in CONFIGS.rglob('*.py')
    if '_base_' not in path.parts and path.stem != 'folder'
)  # of the chain's variables
REGISTRIES = (
    root_registries.MODELS,
    root_registries.MODEL_WRAPPERS,
    root_registries.DATASETS,
    root_registries.TRANSFORMS,
    root_registries.METRICS,
    root_registries.HOOKS,
    root_registries.LOOPS,
    root_registries.VISUALIZERS,
)
# Of segmentors that ask SAM 3; see test_concept_configs.py.
CONCEPTS = {'activesam', 'segearth_ov3', 'tagclip_sam3'}
FOLDERS = {path.parent.name for path in CONFIGS.glob('*/published.yml')} - CONCEPTS
ACCEPTED = json.loads((CONFIGS.parent / 'tests/clip/towers/catalogue.json').read_text())['refused']
# Of which something is published: CLIP's towers of OpenAI and LAION.
NEW_TOWERS = [
    leaf
    for leaf in LEAVES
    if leaf.startswith('dense/')
    or (
        leaf.startswith('tagclip/tagclip_')
        and not re.search('_vit-(base|large)-p1[46]_(openai|laion2b)_', leaf)
    )
]
PUBLISHED_LEAVES = [
    leaf for leaf in LEAVES if leaf.partition('/')[0] in FOLDERS and leaf not in NEW_TOWERS
]
TAGGERS = [leaf for leaf in LEAVES if leaf.startswith('tagclip/')]
SEGMENTORS = [leaf for leaf in LEAVES if Path(leaf).name.startswith('cls-seg_')]
DEMO_TAGGERS = [
    leaf
    for leaf in LEAVES
    if leaf.startswith('demo/')
    and leaf not in SEGMENTORS
    and not Path(leaf).name.startswith(('direct', 'tag-guided'))
]
# By the end of a config's file name.
NUM_CLASSES = {
    'voc07': 20,
    'voc12': 20,
    'coco14': 80,
    'coco17': 80,
    'cocostuff': 171,
    'nus-wide': 81,
}


@cache
def load(leaf):
    """A config, which no test may change."""
    return Config.fromfile(CONFIGS / leaf)


@pytest.fixture(params=TAGGERS)
def cfg(request):
    return load(request.param)


def without_labels(leaf):
    """A config's name without the protocol of its labels."""
    return Path(leaf).stem.removesuffix('_piaa-labels').removesuffix('_tagclip-labels')


def entries(node):
    """All dicts in a config."""
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, list | tuple):
        for item in node:
            yield from entries(item)


def transform(cfg, name):
    return next(t for t in cfg.test_dataloader.dataset.pipeline if t['type'].endswith(name))


def architecture(cfg):
    return open_clip.get_model_config(cfg.model.encoder.model)


@cache
def is_registered(name, scope):
    """Whether there is such a type, where this default scope is set."""
    return any(registry.get(name) is not None for registry in REGISTRIES)


@pytest.mark.parametrize('leaf', LEAVES)
def test_every_type_resolves(leaf):
    cfg = load(leaf)
    # Types without a prefix are MMEngine's and MMPretrain's own.
    types = {entry['type'] for entry in entries(cfg.to_dict()) if 'type' in entry}
    prefixed = {name for name in types if name.startswith(('mmtagclip.', 'mmpretrain.'))}
    if 'train_dataloader' not in cfg:  # where the model is OpenMMLab's own
        assert cfg.model.type in prefixed
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        unknown = [name for name in prefixed if not is_registered(name, cfg.default_scope)]
    assert not unknown


def test_names(cfg):
    classes = Vocabulary.load(cfg.model.classes)
    background = Vocabulary.load(cfg.model.get('background', ()))
    assert not set(classes.names) & set(background.names)
    assert load_templates(cfg.model.templates)


def test_architecture_and_weights_are_known(cfg):
    if cfg.model.encoder.model in FROM_PUBLISHERS:
        pytest.skip('from the publisher, see test_new_towers')
    weights = get_pretrained_cfg(cfg.model.encoder.model, cfg.model.encoder.pretrained)
    assert weights, 'open_clip has no such weights'
    assert weights.get('quick_gelu', False) == architecture(cfg).get('quick_gelu', False)


def test_patch_size_is_the_models(cfg):
    """No config names it: a hook takes it from the model."""
    assert 'patch_size' not in transform(cfg, 'ResizeToPatchGrid')
    assert cfg.default_hooks.patch_grid.type == 'mmtagclip.PatchGridHook'


def test_meta_keys_serve_the_metrics_and_the_tag_writer(cfg):
    keys = {'sample_idx', 'img_path', 'load_error'}
    if any('VOC' in metric['type'] for metric in cfg.test_evaluator):
        keys.add('gt_label_difficult')
    assert keys <= set(transform(cfg, 'PackInputs')['meta_keys'])


def test_metric_and_tags_share_the_threshold(cfg):
    ks = {metric['k'] for metric in cfg.test_evaluator if 'k' in metric}
    assert ks <= {cfg.model.head.get('threshold', 0.5)}


def test_loader_keeps_sizes_and_order(cfg):
    loader = cfg.test_dataloader
    assert loader.collate_fn.type == 'pseudo_collate'
    assert loader.sampler == {'type': 'DefaultSampler', 'shuffle': False}
    assert loader.dataset.test_mode


@pytest.mark.parametrize('leaf', TAGGERS)
def test_number_of_classes(leaf):
    data = data_of(leaf)
    if data == 'folder':
        pytest.skip('an example')
    cfg = load(leaf)
    assert len(Vocabulary.load(cfg.model.classes)) == NUM_CLASSES[data]


def test_voc_names_are_the_data_sets():
    assert Vocabulary.load('voc').names == tuple(VOC2007_CATEGORIES)


# Whose images and labels, by the data set's folder and its list; so the metafiles call them.
PROTOCOLS = {
    ('VOC2007', 'test'): 'VOC2007 test',
    ('VOC2012', 'ImageSets/Segmentation/val.txt'): 'VOC2012 val, 1,449 images',
    ('VOC2012', 'ImageSets/Main/val.txt'): 'VOC2012 val, 5,823 images',
    ('coco', 'annotations/instances_val2014.json'): 'COCO2014 val, all labels of the annotations',
    ('coco', 'annotations/tagclip_val2014.json'): "COCO2014 val, TagCLIP's list of labels",
    ('nus_wide', 'test.json'): 'NUS-WIDE test, its own list',
    ('nus_wide', 'piaa_test.json'): "NUS-WIDE test, PIAA's list of 60,260 images",
}
DIFFICULT = {
    True: ', difficult objects positive',
    False: ', difficult objects negative',
    None: ', difficult objects ignored',
}


def label_protocols(cfg):
    """Under which protocols a config's figures stand."""
    dataset = cfg.test_dataloader.dataset
    folder = Path(dataset.data_root).name
    if dataset.type != 'mmtagclip.VOCMultiLabel':
        return {PROTOCOLS[folder, dataset.ann_file]}
    images = dataset.get('image_set_path') or dataset.split
    if (folder, images) == ('VOC2012', 'val'):
        images = 'ImageSets/Main/val.txt'
    return {
        PROTOCOLS[folder, images] + DIFFICULT[metric.get('difficult_as_positive')]
        for metric in cfg.test_evaluator
    }


@pytest.mark.parametrize(
    'name, protocols',
    [
        (
            'tagclip/tagclip_{}_voc07',
            ['VOC2007 test, difficult objects positive', 'VOC2007 test, difficult objects ignored'],
        ),
        ('tagclip/tagclip_{}_voc07_piaa-labels', ['VOC2007 test, difficult objects negative']),
        (
            'tagclip/tagclip_{}_voc12',
            [
                'VOC2012 val, 1,449 images, difficult objects positive',
                'VOC2012 val, 1,449 images, difficult objects ignored',
            ],
        ),
        (
            'tagclip/tagclip_{}_voc12_piaa-labels',
            ['VOC2012 val, 5,823 images, difficult objects negative'],
        ),
        ('tagclip/tagclip_{}_coco14', ['COCO2014 val, all labels of the annotations']),
        ('tagclip/tagclip_{}_coco14_tagclip-labels', ["COCO2014 val, TagCLIP's list of labels"]),
        ('tagclip/tagclip_{}_nus-wide', ['NUS-WIDE test, its own list']),
        (
            'tagclip/tagclip_{}_nus-wide_piaa-labels',
            ["NUS-WIDE test, PIAA's list of 60,260 images"],
        ),
        ('piaa/piaa-sclip_{}_voc07', ['VOC2007 test, difficult objects negative']),
        ('piaa/piaa-sclip_{}_voc07_tagclip-labels', ['VOC2007 test, difficult objects positive']),
        ('piaa/piaa-sclip_{}_voc12', ['VOC2012 val, 5,823 images, difficult objects negative']),
        (
            'piaa/piaa-sclip_{}_voc12_tagclip-labels',
            ['VOC2012 val, 1,449 images, difficult objects positive'],
        ),
        ('piaa/piaa-sclip_{}_coco14', ['COCO2014 val, all labels of the annotations']),
        ('piaa/piaa-sclip_{}_coco14_tagclip-labels', ["COCO2014 val, TagCLIP's list of labels"]),
        ('piaa/piaa-sclip_{}_nus-wide', ["NUS-WIDE test, PIAA's list of 60,260 images"]),
    ],
)
def test_protocols(name, protocols):
    """Either method under either's labels."""
    cfg = load(f'{name.format("vit-base-p16_openai")}.py')
    assert label_protocols(cfg) == set(protocols)


@pytest.mark.parametrize('folder', ['tagclip', 'piaa'])
def test_figures_stand_under_their_labels(folder):
    """What a metafile calls the data set is what the config evaluates on."""
    for model in models_of(folder):
        for result in model.get('Results', ()):
            cfg = load(model['Config'].removeprefix('configs/'))
            assert result['Dataset'] in label_protocols(cfg), model['Name']


def test_voc07_reports_both_conventions():
    cfg = load('tagclip/tagclip_vit-base-p16_openai_voc07.py')
    conventions = {
        (metric['prefix'], metric.get('difficult_as_positive')) for metric in cfg.test_evaluator
    }
    assert conventions == {('difficult_positive', True), ('difficult_ignored', None)}
    assert len(cfg.test_evaluator) == 4


# What is published. These tables repeat by hand what _base_ says, from the articles and programs
# that each published.yml names: what changes there has to be changed here as well.


# By method: how positions are resized, the last block and its options.
VALUE_ONLY = ('bilinear', 'SelfOnly', {'residual': True, 'mlp': True})
ENCODERS = {
    'clip': VALUE_ONLY,
    'tagclip': VALUE_ONLY,
    'cls-seg': VALUE_ONLY,
    'maskclip': ('bicubic', *VALUE_ONLY[1:]),
    'reco': ('bicubic_scale', *VALUE_ONLY[1:]),
    'clip-dinoiser': ('bicubic', *VALUE_ONLY[1:]),
    'sclip': ('bicubic_scale', 'SCLIP', {'residual': True, 'mlp': True}),
    'clearclip': ('bicubic_scale', 'ClearCLIP', {'residual': False, 'mlp': False}),
    'naclip': ('bicubic_scale', 'NACLIP', {'residual': False, 'mlp': False, 'std': 5.0}),
    'itaclip': (
        'bicubic_scale',
        'ITACLIP',
        {'residual': True, 'mlp': False, 'block_inputs': (6, 7, 9)},
    ),
    'scclip': (
        'bicubic_scale',
        'SCCLIP',
        {
            'residual': False,
            'mlp': False,
            'similarity_layer': 8,
            'output_layer': 3,
            'fusion_layers': tuple(range(3, 10)),
            'class_token_weight': 0.3,
        },
    ),
    'proxyclip': (
        'bicubic_scale',
        'Proxy',
        {
            'source': {
                'type': 'mmtagclip.TimmFeatures',
                'model': 'vit_base_patch8_224.dino',
                'pretrained': True,
                'positions': 'bicubic_scale',
            },
            'keep_grid': True,
            'beta': 1.2,
            'gamma': 3.0,
        },
    ),
    'trident': (
        'bicubic_scale',
        'Proxy',
        {
            'source': {
                'type': 'mmtagclip.TimmFeatures',
                'model': 'vit_base_patch16_224.dino',
                'pretrained': True,
                'positions': 'bicubic_scale',
            },
            'keep_grid': True,
            'beta': 1.2,
            'gamma': 3.0,
        },
    ),
    'corrclip': (
        'bicubic_scale',
        'CorrCLIP',
        {
            'source': {
                'type': 'mmtagclip.TimmFeatures',
                'model': 'vit_base_patch8_224.dino',
                'pretrained': True,
                'positions': 'bicubic_scale',
                'tokens': 'q+k',
            },
            'spatial_weight': 1.0,
            'region_weight': 0.5,
        },
    ),
    'corrclip-v2': (
        'bicubic_scale',
        'CorrCLIP',
        {
            'source': {
                'type': 'mmtagclip.TimmFeatures',
                'model': 'vit_large_patch16_radio_v3.c_radio',
                'pretrained': True,
                'fit': 'nearest',
            },
            'whole_image': True,
        },
    ),
}
ENCODERS['corrclip-v2-bank'] = ENCODERS['corrclip-v2']
# What a method's figures are published with, if not OpenAI's ViT-B/16.
CORRCLIP = ('corrclip', 'corrclip-v2', 'corrclip-v2-bank')
BACKBONES = {
    **dict.fromkeys(CORRCLIP, 'vit-base-p16_metaclip'),
    'clip-dinoiser': 'vit-base-p16_laion2b',
}


def published_name(method, data):
    """Name of the config of a method's figure."""
    stem, _, ending = method.partition('_')
    backbone = BACKBONES.get(method, 'vit-base-p16_openai')
    return f'{stem}_{backbone}_{data}{"_" if ending else ""}{ending}'


# By the number of blocks: layers of parts. For 12, those of the programs of TagCLIP and CLS-SEG.
# For 24, SC-CLIP's authors name theirs for ViT-L; the others are the counterparts chosen here.
LAYERS = {
    12: {
        'DMAR': {'layers': (8, 9, 10), 'votes': 4},
        'DMAR_stuff': {'layers': tuple(range(11)), 'votes': 4},
        'AffinityRefinement': {'layers': tuple(range(4, 12))},
        'AffinityRefinement_voc': {'layers': tuple(range(4, 11))},
    },
    24: {
        'DMAR': {'layers': tuple(range(16, 23)), 'votes': 8},
        'DMAR_stuff': {'layers': tuple(range(23)), 'votes': 8},
        'AffinityRefinement': {'layers': tuple(range(8, 24))},
        'AffinityRefinement_voc': {'layers': tuple(range(8, 23))},
        'SCCLIPLastBlock': {
            'similarity_layer': 16,
            'output_layer': 6,
            'fusion_layers': tuple(range(8, 19)),
            'class_token_weight': 0.1,
        },
    },
}
# TagCLIP by data set: names, DMAR's layers, and the threshold of CWR and tags. Published for VOC,
# COCO and COCO-Stuff; the others follow one of them.
VOC = ({'classes': 'voc', 'background': 'voc_background'}, 'DMAR', 0.5)
COCO = ({'classes': 'coco', 'background': 'coco_background'}, 'DMAR', 0.5)
STUFF = ({'classes': 'cocostuff'}, 'DMAR_stuff', 0.1)
TAGGING = {
    **dict.fromkeys(('voc07', 'voc12', 'voc12aug', 'voc21'), VOC),
    **dict.fromkeys(('coco14', 'coco17', 'coco-object', 'folder'), COCO),
    **dict.fromkeys(('cocostuff', 'cocostuff27', 'cocostuff171'), STUFF),
    'nus-wide': ({'classes': 'nus_wide'}, 'DMAR', 0.5),
    'pascal-context60': ({'classes': 'pascal_context'}, *STUFF[1:]),
    'ade20k': ({'classes': 'ade20k'}, *STUFF[1:]),
}
# CLS-SEG by data set: the affinity's layers, its box threshold, and names. Published for VOC,
# COCO-Object and COCO-Stuff-27; the others follow COCO-Stuff.
STUFF_PROMPTS = {
    'prompts': 'cocostuff_clsseg',
    'background_prompts': 'cocostuff_clsseg_background',
    'with_background': False,
}
CLS_SEG = {
    'voc12': (
        'AffinityRefinement_voc',
        0.4,
        {'prompts': 'voc_clsseg', 'background_prompts': 'voc_background'},
    ),
    'coco-object': (
        'AffinityRefinement',
        0.7,
        {'prompts': 'coco_clsseg', 'background_prompts': 'coco_background'},
    ),
    'cocostuff27': (
        'AffinityRefinement',
        0.7,
        {**STUFF_PROMPTS, 'label_map': 'cocostuff_groups', 'groups': 'cocostuff27'},
    ),
    'cocostuff171': ('AffinityRefinement', 0.7, STUFF_PROMPTS),
    'pascal-context60': (
        'AffinityRefinement',
        0.7,
        {'background_prompts': 'cocostuff_clsseg_background'},
    ),
    'ade20k': (
        'AffinityRefinement',
        0.7,
        {'background_prompts': 'cocostuff_clsseg_background', 'with_background': False},
    ),
}
PREPROCESSOR = {'type': 'mmtagclip.CLIPDataPreprocessor'}


def method_of(leaf):
    """A config's method, without its variants."""
    stem = Path(leaf).stem.removeprefix('tag-guided-').removeprefix('piaa-')
    return stem.partition('_')[0].removesuffix('-dmar-cwr')


def data_of(leaf):
    """A config's data set, without whose labels, CRF and PAMR."""
    stem = without_labels(leaf).removesuffix('_crf').removesuffix('_pamr')
    return stem.rpartition('_')[2]


def layers_of(leaf):
    return LAYERS[24 if 'vit-large' in leaf else 12]


@pytest.mark.parametrize('leaf', PUBLISHED_LEAVES)
def test_published_encoders(leaf):
    model = load(leaf).model
    encoder = (model.get('encoder') or model.tagger.encoder).to_dict()
    positions, block, options = ENCODERS[method_of(leaf)]
    options = {**options, **layers_of(leaf).get(f'{block}LastBlock', {})}
    assert encoder.get('positions', 'bilinear') == positions
    config = encoder.get('last_block', {'type': 'mmtagclip.SelfOnlyLastBlock'})
    assert config['type'] == f'mmtagclip.{block}LastBlock'
    assert set(config) - {'type'} <= set(options)
    source = config.get('source')  # not built, which would download it
    policy = MODELS.build({**config, **({'source': torch.nn.Identity()} if source else {})})
    built = {key: source if key == 'source' else getattr(policy, key) for key in options}
    assert built == options


@pytest.mark.parametrize(
    'path', sorted((CONFIGS / '_base_/backbones').glob('*.py')), ids=lambda path: path.stem
)
def test_published_layers(path):
    backbone = Config.fromfile(path).backbone.to_dict()
    if not backbone:
        pytest.skip('SAM 3 is no backbone of a CLIP')
    encoder = Config({'encoder': backbone.pop('encoder')}).encoder
    if not re.search('openai|laion2b|demo', path.stem) or 'convnext' in path.stem:
        pytest.skip('nothing is published for this tower: layers follow from the depth')
    tower = vision(encoder)
    assert backbone == LAYERS[tower['layers']]
    size, _, weights = path.stem.removeprefix('vit-').partition('_')
    if weights:
        name, patch = size.split('-p')
        assert encoder.model.startswith(f'ViT-{name[0].upper()}-{patch}')
        assert encoder.pretrained.partition('_')[0] == weights


@pytest.mark.parametrize('leaf', NEW_TOWERS)
def test_new_towers(leaf):
    """One line names the model; layers, sizes and normalisation follow from it."""
    cfg = load(leaf)
    encoder = cfg.model.encoder
    has_blocks, source = True, {key: encoder[key] for key in encoder.keys() & {'checkpoint'}}
    if encoder.model in FROM_PUBLISHERS:
        assert list(source) == ['checkpoint']  # a folder, which the files are put into
    else:
        source['pretrained'] = encoder.pretrained
        assert get_pretrained_cfg(encoder.model, encoder.pretrained)
        assert ACCEPTED[encoder.model] is None
        vision = get_model_config(encoder.model)['vision_cfg']
        has_blocks = not vision.get('timm_model_name', '').startswith(('convnext', 'fastvit'))
    if leaf.startswith('dense/'):
        assert encoder.to_dict() == {
            'type': 'mmtagclip.CLIPEncoder',
            'model': encoder.model,
            **source,
            'last_block': None,
            'positions': None,
        }
        assert cfg.model.windows.type == 'mmtagclip.WholeImage'
    else:
        assert set(encoder) == {'type', 'model', *source}
        assert cfg.model.head.dmar == ({'type': 'mmtagclip.DMAR'} if has_blocks else None)
    assert cfg.model.data_preprocessor == PREPROCESSOR


def heads_of_tagclip():
    """Configs that hold TagCLIP with OpenAI's or LAION's weights: plain, CLS-SEG's, tag-guided."""
    for leaf in LEAVES:
        folder, _, name = leaf.partition('/')
        generator = folder == 'pseudo_labels' and '_vit-base-p16_openai_' in name
        plain = name.startswith(('tagclip', 'tag-guided')) and folder != 'demo'
        if (
            leaf not in NEW_TOWERS
            and (plain or folder == 'cls_seg' or generator)
            and 'sam3' not in name
        ):
            yield leaf


def tagclip_head(leaf):
    _, layers, threshold = TAGGING[data_of(leaf)]
    return {
        'type': 'mmtagclip.TagCLIPHead',
        'dmar': {'type': 'mmtagclip.DMAR', **layers_of(leaf)[layers]},
        'cwr': {'type': 'mmtagclip.CWR', 'threshold': threshold},
        'threshold': threshold,
    }


@pytest.mark.parametrize('leaf', heads_of_tagclip())
def test_published_tagger(leaf):
    model = load(leaf).model.to_dict()
    guided = model['type'] == 'mmtagclip.DirectSegmentor'
    tagger = model.get('tagger', model)
    encoder = tagger.pop('encoder')
    assert set(encoder) == {'type', 'model', 'pretrained'}
    if guided:
        assert {**model['encoder'], **encoder} == model['encoder']
    assert tagger == {
        'type': 'mmtagclip.TagCLIP',
        'head': tagclip_head(leaf),
        'templates': 'templates_85',
        **({} if guided else {'data_preprocessor': PREPROCESSOR}),
        **TAGGING[data_of(leaf)][0],
    }


@pytest.mark.parametrize('leaf', [leaf for leaf in LEAVES if leaf.startswith('cls_seg/')])
def test_published_cls_seg(leaf):
    model = load(leaf).model.to_dict()
    del model['tagger']
    layers, threshold, names = CLS_SEG[data_of(leaf)]
    crf = {'post_processor': {'type': 'mmtagclip.DenseCRF'}} if leaf.endswith('_crf.py') else {}
    assert model == {
        'type': 'mmtagclip.CLSSeg',
        'cam': {'type': 'mmtagclip.SoftmaxGradCAM'},
        'affinity': {
            'type': 'mmtagclip.AffinityRefinement',
            'box_threshold': threshold,
            **layers_of(leaf)[layers],
        },
        'templates': 'templates_origami',
        'data_preprocessor': PREPROCESSOR,
        **names,
        **crf,
    }


# Figures with ViT-B/16, as printed: each method's own paper (of PIAA, its authors' README);
# t: in Trident's table. A row "data" names the columns.
FIGURES = """
data         voc07  coco14_tagclip-labels
tagclip      92.8   68.8
data         voc12  coco-object  cocostuff27
cls-seg      64.8   34.0         30.1
cls-seg_crf  68.7   35.3         31.0
data          voc12  voc07  coco14  nus-wide
piaa-sclip    91.4   91.7   73.0    49.2
piaa-itaclip  92.2   92.3   74.6    49.1
piaa-scclip   92.2   92.5   73.2    50.6
data         voc21  voc20  pascal-context60  pascal-context59  coco-object  cocostuff171  cityscapes  ade20k
maskclip     -      49.5   -      21.7   -      12.5   -      -
sclip        59.63  81.54  31.74  34.46  33.52  22.77  32.34  16.45
clearclip    -      80.9   -      35.9   -      23.9   30.0   16.7
naclip       58.9t  79.7t  32.2t  35.2t  33.2t  23.3t  35.5t  17.4t
naclip_pamr  64.07  83.03  34.99  38.35  36.19  25.69  38.27  19.05
itaclip      67.9   -      37.5   -      37.7   27.0   40.2   -
proxyclip    61.3t  80.3t  35.3t  39.1t  37.5t  26.5t  38.1t  20.2t
trident      67.1   84.5   38.6   42.2   41.1   28.3   42.9   21.9
clip-dinoiser  -    80.9   -      35.9   -      24.6   31.1   20.0
corrclip     74.8   88.8   44.2   48.8   43.7   31.6   49.4   26.9
corrclip-v2  75.8   89.9   45.9   50.8   45.4   32.6   53.7   28.6
corrclip-v2-bank  82.2   93.6   50.8   56.3   54.6   38.5   58.7   33.2
data         cityscapes
reco         19.3
"""  # noqa: E501


def figures():
    """Every published figure, by the config's name."""
    for line in FIGURES.strip().splitlines():
        method, *values = line.split()
        if method == 'data':
            columns = values
            continue
        for data, value in zip(columns, values, strict=True):
            if value != '-':
                yield published_name(method, data), value


def models_of(folder):
    """What the metafile of a folder says of each config."""
    return yaml.safe_load((CONFIGS / folder / 'metafile.yml').read_text())['Models']


def test_references_fit_their_segmentors():
    """Levels depend on the encoder's last block and positions, and on the templates."""

    def models(bank, config):
        for path in (f'_base_/banks/{bank}.py', config):
            yield Config.fromfile(CONFIGS / path).model

    ours, theirs = models('reco', 'reco/reco_vit-base-p16_openai_cityscapes.py')
    assert ours.encoder == theirs.encoder
    assert theirs.head.templates == 'templates_85'  # a ReferenceEncoder's
    ours, theirs = models('reco-demo', 'demo/direct_demo.py')
    one, other = (MODELS.build(model.encoder).identity for model in (ours, theirs))
    assert one == other
    assert ours.templates == theirs.head.templates


def test_published_figures():
    """All metafiles together have these figures, and no other."""
    found = {}
    for folder in FOLDERS:
        for model in models_of(folder):
            for result in model.get('Results', ()):
                ((metric, value),) = result['Metrics'].items()
                found[model['Name']] = f'{value}{"t" * ("Trident" in metric)}'
    assert found == dict(figures())


# Segmentors


@pytest.fixture(params=SEGMENTORS)
def seg_cfg(request):
    return load(request.param)


def count(source):
    return len(Vocabulary.load(source))


def vision(encoder):
    """The image tower's config, in open_clip's terms."""
    if encoder.model.startswith('local-dir:'):
        folder = Path(encoder.model.removeprefix('local-dir:'))
        content = json.loads((folder / 'open_clip_config.json').read_text())['model_cfg']
    else:
        content = open_clip.get_model_config(encoder.model)
    return content['vision_cfg']


def flat(pipeline):
    """The transforms of a pipeline, those under TestTimeAug included."""
    return [entry for entry in entries(pipeline) if 'type' in entry]


def test_segmentors_names(seg_cfg):
    model = seg_cfg.model
    classes = Vocabulary.load(model.tagger.classes)
    prompts = Vocabulary.load(model.get('prompts', model.tagger.classes))
    assert len(prompts) == len(classes)
    for names, background in [
        (classes, model.tagger.get('background', ())),
        (prompts, model.background_prompts),
    ]:
        assert not set(names.names) & set(Vocabulary.load(background).names)
    assert load_templates(model.templates)
    assert load_templates(model.tagger.templates)


def test_segmentors_labels_are_the_data_sets(seg_cfg):
    model, data = seg_cfg.model, seg_cfg.test_dataloader.dataset
    names = Vocabulary.load(model.get('groups', model.tagger.classes)).names
    if model.get('with_background', True):
        names = ('background', *names)
    theirs = DATASETS.get(data.type).METAINFO.get('classes')
    if theirs is None:
        theirs = Vocabulary.load(data.classes).names
        if data.get('with_background', True):
            theirs = ('background', *theirs)
    assert [name.replace(' ', '') for name in names] == [name.replace(' ', '') for name in theirs]
    if 'label_map' in model:
        assert set(load_integers(model.label_map)) == set(range(count(model.groups)))
        assert len(load_integers(model.label_map)) == count(model.tagger.classes)


def test_segmentors_layers_and_patches_fit_the_architecture(seg_cfg):
    model = seg_cfg.model
    tower = vision(model.tagger.encoder)
    for layers in (model.affinity.layers, model.tagger.head.dmar.layers):
        assert set(layers) <= set(range(tower['layers']))
    for pipeline in (seg_cfg.test_pipeline, seg_cfg.tta_pipeline):
        (resize,) = (t for t in flat(pipeline) if t['type'] == 'mmtagclip.ResizeToPatchGrid')
        assert 'patch_size' not in resize
        assert resize['max_side'] == 1344


def test_segmentors_pipelines(seg_cfg):
    assert seg_cfg.test_dataloader.dataset.pipeline == seg_cfg.test_pipeline
    assert 'collate_fn' not in seg_cfg.test_dataloader  # mmseg's inferencer stumbles over it
    for pipeline in (seg_cfg.test_pipeline, seg_cfg.tta_pipeline):
        transforms = {t['type']: t for t in flat(pipeline)}
        # What post-processors and the way back from a flip need.
        assert list(transforms)[:2] == ['LoadImageFromFile', 'mmtagclip.KeepImage']
        assert {'original', 'ori_shape', 'flip', 'flip_direction', 'img_path'} <= set(
            transforms['PackSegInputs']['meta_keys']
        )
        assert 'reduce_zero_label' not in transforms['LoadAnnotations']  # the data set says it


@pytest.mark.parametrize('leaf', DEMO_TAGGERS)
def test_demo(leaf):
    cfg = load(leaf)
    assert count(cfg.model.classes) == count(cfg.test_dataloader.dataset.classes) == 50
    assert not set(Vocabulary.load(cfg.model.classes).names) & set(
        Vocabulary.load(cfg.model.background).names
    )
    tower = vision(cfg.model.encoder)
    dmar = cfg.model.head.get('dmar')
    if dmar is not None:
        assert set(dmar.layers) <= set(range(tower['layers']))


# Direct segmentation


DIRECT = [
    leaf
    for leaf in PUBLISHED_LEAVES
    if leaf.partition('/')[0] not in ('tagclip', 'piaa') and leaf not in SEGMENTORS
]
DIRECT_CLASSES = {
    'voc21': 20,
    'voc20': 20,
    'pascal-context60': 59,
    'pascal-context59': 59,
    'coco-object': 80,
    'cocostuff171': 171,
    'cityscapes': 19,
    'ade20k': 150,
}
DIRECT_DATA = {
    'voc21': 'VOC2012 val, with background',
    'voc20': 'VOC2012 val, without background',
    'pascal-context60': 'PASCAL Context, 60 classes',
    'pascal-context59': 'PASCAL Context, 59 classes',
    'coco-object': 'COCO-Object',
    'cocostuff171': 'COCO-Stuff, 171 classes',
    'cityscapes': 'Cityscapes val',
    'ade20k': 'ADE20K val',
}
WITH_BACKGROUND = ('voc21', 'pascal-context60', 'coco-object')


def direct_head(name):
    model = load(leaf_of(name)).model
    return MODELS.build(model.head), model


def leaf_of(name):
    (leaf,) = (leaf for leaf in LEAVES if Path(leaf).stem == name)
    return leaf


@pytest.mark.parametrize('leaf', DIRECT)
def test_direct(leaf):
    cfg = load(leaf)
    head, model = direct_head(Path(leaf).stem)
    data = data_of(leaf)
    assert len(head.vocabulary) == DIRECT_CLASSES[data]
    assert head.with_background == (data in WITH_BACKGROUND)
    dataset = cfg.test_dataloader.dataset
    theirs = DATASETS.get(dataset.type).METAINFO.get('classes')
    if theirs is None:
        theirs = Vocabulary.load(dataset.classes).names
        if dataset.get('with_background', True):
            theirs = ('background', *theirs)
    assert len(theirs) == len(head.vocabulary) + head.with_background
    # Words may differ, but where they are the same, so is their place.
    ours = (*(['background'] if head.with_background else []), *head.vocabulary.names)
    same = [[name.replace(' ', '') for name in names] for names in (ours, theirs)]
    assert sum(one == other for one, other in zip(*same, strict=True)) > 0.6 * len(ours)
    for name in set(same[0]) & set(same[1]):
        assert same[0].index(name) == same[1].index(name)

    pipeline = {t['type']: t for t in cfg.test_pipeline}
    assert dataset.pipeline == cfg.test_pipeline
    assert list(pipeline)[:3] == ['LoadImageFromFile', 'mmtagclip.KeepImage', 'Resize']
    assert 'reduce_zero_label' not in pipeline['LoadAnnotations']  # the data set says it
    if dataset.type == 'mmtagclip.VocabularySegDataset':
        assert dataset.get('reduce_zero_label', False) == (data == 'voc20')
    # Test-time augmentation starts with the same steps.
    side = [t for t in flat(cfg.tta_pipeline) if 'scale' in t and t['type'] == 'Resize']
    assert side == [pipeline['Resize']]
    assert 'original' in pipeline['PackSegInputs'].meta_keys
    patch = vision(model.encoder)['patch_size']
    if model.windows.type == 'mmtagclip.SlidingWindows':
        assert model.windows.size % patch == 0
        assert pipeline['Resize'].scale[1] >= model.windows.size
    if Path(leaf).name.startswith('tag-guided'):
        check_tag_guided(cfg, Path(leaf).name.removeprefix('tag-guided-'))


def check_tag_guided(cfg, plain):
    """The direct config of this name, whose classes TagCLIP restricts."""
    model = cfg.model.to_dict()
    tagger, tags = model.pop('tagger'), model.pop('tags')
    assert tags == 'own'
    assert count(tagger['classes']) == count(model['head']['classes'])
    untagged = load(leaf_of(plain.removesuffix('.py')))
    assert model == untagged.model.to_dict()
    assert cfg.test_pipeline == untagged.test_pipeline


# Published with each encoder, or, where nothing was, SCLIP's: MaskCLIP with a background and on
# other data than its own, ITACLIP on VOC20, PC59 and ADE20K. `side` is the short side of the
# resized image in pixels (the long one for MaskCLIP on PC59), `whole` the image in one piece.
PUBLISHED = """
  data              side window  stride  scale  threshold  area  PAMR  templates
maskclip
  voc21             512  whole       -     40  0.1        0.1   -     85
  voc20             512  whole       -     40  0          0     -     85
  pascal-context60  512  whole       -     40  0.1        0     -     85
  pascal-context59  520  whole       -     40  0          0     -     85
  coco-object       512  whole       -     40  0.1        0     -     85
  cocostuff171      512  whole       -     40  0          0     -     85
  cityscapes        512  whole       -     40  0          0     -     85
  ade20k            512  whole       -     40  0          0     -     85
sclip
  voc21             336    224     112     65  0.1        0.1   -     80
  voc20             336    224     112     40  0          0     -     80
  pascal-context60  336    224     112     50  0.1        0     -     80
  pascal-context59  336    224     112     40  0          0     -     80
  coco-object       336    224     112     50  0.1        0     -     80
  cocostuff171      448    224     112     40  0          0     -     80
  cityscapes        560    224     112     40  0          0     -     80
  ade20k            336    224     112     40  0          0     -     80
clearclip
  voc21             448    448     224     50  0.5        0     -     80
  voc20             448    448     224     50  0          0     -     80
  pascal-context60  448    448     224     50  0.15       0     -     80
  pascal-context59  448    448     224     50  0          0     -     80
  coco-object       448    448     224     50  0.4        0     -     80
  cocostuff171      448    448     224     50  0          0     -     80
  cityscapes        448    224     224     50  0          0     -     80
  ade20k            448    448     224     50  0          0     -     80
naclip
  voc21             336    cut       -     40  0.1        0     -     80
  voc20             336    cut       -     40  0          0     -     80
  pascal-context60  336    224     112     40  0.1        0     -     80
  pascal-context59  336    224     112     40  0          0     -     80
  coco-object       336    224     112     40  0.1        0     -     80
  cocostuff171      336    224     112     40  0          0     -     80
  cityscapes        560    224     112     40  0          0     -     80
  ade20k            336    224     112     40  0          0     -     80
itaclip
  voc21             336    224      28     60  0.1        0.1   PAMR  80
  voc20             336    224      28     40  0          0     PAMR  80
  pascal-context60  336    224      28     55  0.1        0     PAMR  80
  pascal-context59  336    224      28     40  0          0     PAMR  80
  coco-object       336    224      28     50  0.1        0     PAMR  80
  cocostuff171      448    224      28     40  0          0     PAMR  80
  cityscapes        560    224      28     40  0          0     PAMR  80
  ade20k            336    224      28     40  0          0     PAMR  80
scclip
  voc21             336    224     112     50  0.15       0.1   -     80
  voc20             336    224     112     40  0          0     -     80
  pascal-context60  336    224     112     40  0.15       0     -     80
  pascal-context59  336    224     112     40  0          0     -     80
  coco-object       336    224     112     55  0.35       0     -     80
  cocostuff171      336    224     112     40  0          0     -     80
  cityscapes        560    224     112     40  0          0     -     80
  ade20k            336    224     112     40  0          0     -     80
proxyclip
  voc21             336    336     112     40  0.2        0     -     80
  voc20             336    336     112     40  0          0     -     80
  pascal-context60  336    336     112     40  0.15       0     -     80
  pascal-context59  336    336     112     40  0          0     -     80
  coco-object       336    336     112     40  0.25       0     -     80
  cocostuff171      336    336     112     40  0          0     -     80
  cityscapes        448    224     112     40  0          0     -     80
  ade20k            448    336     112     40  0          0     -     80
trident
  voc21             448    336     224     40  0.2        0     -     80
  voc20             336    336     112     40  0          0     -     80
  pascal-context60  576    336     224     40  0.15       0     -     80
  pascal-context59  576    336     224     40  0          0     -     80
  coco-object       448    336     224     40  0.25       0     -     80
  cocostuff171      448    336     224     40  0          0     -     80
  cityscapes        688    336     224     40  0          0     -     80
  ade20k            576    336     224     40  0          0     -     80
clip-dinoiser
  voc21             448    448     224    100  0          0     -     80
  voc20             448    448     224    100  0          0     -     80
  pascal-context60  448    448     224    100  0          0     -     80
  pascal-context59  448    448     224    100  0          0     -     80
  coco-object       448    448     224    100  0          0     -     80
  cocostuff171      448    448     224    100  0          0     -     80
  cityscapes        448    448     224    100  0          0     -     80
  ade20k            448    448     224    100  0          0     -     80
corrclip
  voc21             336    336     112     40  0.2        0     -     80
  voc20             336    336     112     40  0          0     -     80
  pascal-context60  336    336     112     40  0.15       0     -     80
  pascal-context59  336    336     112     40  0          0     -     80
  coco-object       336    336     112     40  0.25       0     -     80
  cocostuff171      336    336     112     40  0          0     -     80
  cityscapes        448    224     112     40  0          0     -     80
  ade20k            448    336     112     40  0          0     -     80
corrclip-v2
  voc21             336    336     112     40  0.2        0     -     80
  voc20             336    336     112     40  0          0     -     80
  pascal-context60  336    336     112     40  0.15       0     -     80
  pascal-context59  336    336     112     40  0          0     -     80
  coco-object       336    336     112     40  0.25       0     -     80
  cocostuff171      336    336     112     40  0          0     -     80
  cityscapes        784    224     112     40  0          0     -     80
  ade20k            448    336     112     40  0          0     -     80
corrclip-v2-bank
  voc21             336    336     112     40  0.2        0     -     80
  voc20             336    336     112     40  0          0     -     80
  pascal-context60  336    336     112     40  0.15       0     -     80
  pascal-context59  336    336     112     40  0          0     -     80
  coco-object       336    336     112     40  0.25       0     -     80
  cocostuff171      336    336     112     40  0          0     -     80
  cityscapes        784    224     112     40  0          0     -     80
  ade20k            448    336     112     40  0          0     -     80
reco
  cityscapes        448    224     112     1   0          0     -     85
"""


def published_rows():
    for line in PUBLISHED.strip().splitlines()[1:]:
        values = line.split()
        if len(values) == 1:
            encoder = values[0]
        else:
            yield encoder, *values


@pytest.mark.parametrize(
    'encoder, data, side, window, stride, scale, threshold, area, pamr, templates', published_rows()
)
def test_direct_published_values(
    encoder, data, side, window, stride, scale, threshold, area, pamr, templates
):
    name = published_name(encoder, data)
    head, model = direct_head(name)
    assert (head.logit_scale, head.background_threshold, head.area_threshold) == (
        float(scale),
        float(threshold),
        float(area),
    )
    assert head.templates == f'templates_{templates}'
    resize = load(leaf_of(name)).test_pipeline[2]
    long = int(side) if (encoder, data) == ('maskclip', 'pascal-context59') else 2048
    assert (resize.type, resize.scale, resize.keep_ratio) == ('Resize', (long, int(side)), True)
    windows = model.windows.to_dict()
    if window in ('whole', 'cut'):
        expected = {'type': 'mmtagclip.WholeImage', **({'cut': True} if window == 'cut' else {})}
    else:
        expected = {'type': 'mmtagclip.SlidingWindows', 'size': int(window), 'stride': int(stride)}
        if encoder.startswith('corrclip'):
            expected['pad_to'] = 56
    assert windows == expected
    assert ('logit_processor' in model) == (pamr == 'PAMR')
    if pamr == 'PAMR' or encoder == 'naclip':
        refined = model if pamr == 'PAMR' else direct_head(f'{name}_pamr')[1]
        processor = MODELS.build(refined.logit_processor)
        assert (type(processor).__name__, processor.iterations, processor.dilations) == (
            'PAMR',
            10,
            (8, 16),
        )
        assert {**refined, 'logit_processor': None} == {**model, 'logit_processor': None}
    assert 'post_processor' not in model


def test_no_direct_config_is_left_out():
    """Each encoder with each data set; PAMR for NACLIP, tags for three data sets; one of ReCo."""
    pairs = [row[:2] for row in published_rows()]
    assert len(pairs) == len(set(pairs)) == 12 * len(DIRECT_CLASSES) + 1
    assert {Path(leaf).stem for leaf in DIRECT} == {
        *(published_name(*pair) for pair in pairs),
        *(published_name(*pair) + '_pamr' for pair in pairs if pair[0] == 'naclip'),
        *(
            'tag-guided-' + published_name(*pair)
            for pair in pairs
            if pair[1] in ('voc21', 'coco-object', 'cocostuff171')
            and pair[0] not in (*CORRCLIP[1:], 'clip-dinoiser')
        ),
        'scclip_vit-large-p14_openai_voc21',
    }


@pytest.mark.parametrize(
    'data, factor, negative, halves, coarse',
    [
        ('voc21', 1.2, None, None, 0.2),
        ('voc20', 0.0, None, None, 0.2),
        ('pascal-context60', 1.2, None, None, 0.15),
        ('pascal-context59', 1.2, None, None, 0.15),
        ('coco-object', 1.2, None, None, 0.25),
        ('cocostuff171', 1.2, None, None, 0.05),
        ('cityscapes', 3.0, 0.6, 'published', 0.1),
        ('ade20k', 1.2, 0.6, None, 0.05),
    ],
)
def test_published_trident(data, factor, negative, halves, coarse):
    model = load(f'trident/trident_vit-base-p16_openai_{data}.py').model
    gatherer = {'factor': 1.2, 'negative': None, 'halves': None, **model.gatherer}
    sam = {'type': 'mmtagclip.SAM', 'model': 'sam_vit_b', 'pretrained': 'sa1b'}
    assert gatherer == {
        'type': 'mmtagclip.SAMGatherer',
        'sam': sam,
        'factor': factor,
        'negative': negative,
        'halves': halves,
    }
    refinement = MODELS.build(model.label_processor)
    assert refinement.coarse == coarse
    assert (refinement.min_area, refinement.min_quality) == (225, 0.8)
    assert refinement.published_prompt


@pytest.mark.parametrize('data', DIRECT_CLASSES)
def test_published_clip_dinoiser(data):
    """Names of one or two words, as the released code spells them; objectness on two data sets."""
    head, model = direct_head(published_name('clip-dinoiser', data))
    assert head.average == 'probabilities'
    assert head.objectness_threshold == (0.99 if data in ('voc21', 'coco-object') else 0)
    assert model.encoder.pooling == {
        'type': 'mmtagclip.LearntPooling',
        'checkpoint': 'data/clip_dinoiser/last.pt',
    }
    assert f'{model.encoder.model} ({model.encoder.pretrained})' == RELEASED
    said = {word for phrases in head.vocabulary.phrases for word in phrases}
    assert not said & {'diningtable', 'pottedplant', 'trafficlight', 'trafficsign'}
    assert all(len(phrases) == 1 for phrases in head.vocabulary.phrases)


def test_published_training_of_the_pooling():
    cfg = load('pooling/pooling-objects_vit-base-p16_laion2b_folder.py')
    pooling = MODELS.build(cfg.model.encoder.pooling)
    assert (pooling.layer, pooling.gamma, pooling.channels) == (-3, 0.2, 256)
    teacher = {'type': 'mmtagclip.TimmFeatures', 'model': 'vit_base_patch16_224.dino'}
    options = {'pretrained': True, 'tokens': 'v', 'positions': 'bicubic_scale'}
    assert cfg.model.teacher == {**teacher, **options}
    assert (cfg.train_cfg.max_iters, cfg.train_dataloader.batch_size) == (6300, 16)
    rate = cfg.optim_wrapper.optimizer.lr
    assert rate == 5e-5
    assert rate * cfg.optim_wrapper.paramwise_cfg.custom_keys.bkg_decoder.lr_mult == 0.01
    assert cfg.param_scheduler[0].milestones == [5000]
    plain = load('pooling/pooling_vit-base-p16_laion2b_folder.py')
    assert not MODELS.build(plain.model.encoder.pooling).objectness
    assert plain.train_dataloader.dataset.type == 'mmtagclip.ImageFolder'
    generator = load('pseudo_labels/masks_vit-base-p16_openai_folder.py')
    assert cfg.train_dataloader.dataset.labels == f'{generator.work_dir}/pseudo_labels'


@pytest.mark.parametrize('leaf', [*SEGMENTORS, *DIRECT])
def test_all_segmentors_are_drawn_and_augmented_alike(leaf):
    cfg = load(leaf)
    assert cfg.visualizer.type == 'mmtagclip.MaskVisualizer'
    assert cfg.tta_model == {'type': 'mmtagclip.TrainingFreeTTA'}
    assert cfg.tta_pipeline[-1].type == 'TestTimeAug'
    assert cfg.default_hooks.visualization.type == 'SegVisualizationHook'


@pytest.mark.parametrize('folder', sorted(FOLDERS))
def test_figures_of_direct_configs_name_their_data(folder):
    for model in models_of(folder):
        if model['Config'].removeprefix('configs/') not in DIRECT:
            continue
        for result in model.get('Results', ()):
            assert result['Dataset'] == DIRECT_DATA[data_of(model['Config'])]


@pytest.mark.parametrize(
    'encoder, data, classes, background',
    [
        ('maskclip', 'coco-object', 'seg_coco', 25),
        ('sclip', 'voc21', 'seg_voc', 26),
        ('sclip', 'voc20', 'seg_voc', 0),
        ('sclip', 'coco-object', 'seg_coco', 25),
        ('sclip', 'pascal-context60', 'pascal_context', 1),
        ('sclip', 'cityscapes', 'cityscapes', 0),
        ('clearclip', 'voc21', 'seg_voc_plain', 1),
        ('clearclip', 'voc20', 'seg_voc_plain', 0),
        ('clearclip', 'coco-object', 'seg_coco_plain', 1),
        ('clearclip', 'pascal-context60', 'pascal_context', 1),
        ('naclip', 'voc21', 'seg_voc', 26),
        ('naclip', 'coco-object', 'seg_coco', 25),
        ('itaclip', 'voc21', 'seg_voc_itaclip', 44),
        ('itaclip', 'coco-object', 'seg_coco_itaclip', 25),
        ('itaclip', 'pascal-context60', 'seg_pascal_context_itaclip', 1),
        ('itaclip', 'cityscapes', 'seg_cityscapes_itaclip', 0),
        ('itaclip', 'cocostuff171', 'seg_cocostuff_itaclip', 0),
        ('scclip', 'voc21', 'seg_voc', 26),
        ('scclip', 'coco-object', 'seg_coco', 25),
        ('proxyclip', 'voc21', 'seg_voc_plain', 26),
        ('proxyclip', 'voc20', 'seg_voc_plain', 0),
        ('proxyclip', 'coco-object', 'seg_coco_plain', 16),
        ('proxyclip', 'pascal-context60', 'pascal_context', 1),
        ('trident', 'voc21', 'seg_voc_plain', 26),
        ('trident', 'coco-object', 'seg_coco_plain', 16),
        ('trident', 'cityscapes', 'cityscapes', 0),
        ('clip-dinoiser', 'voc21', 'voc', 1),
        ('clip-dinoiser', 'coco-object', 'seg_coco_plain', 1),
        ('clip-dinoiser', 'pascal-context60', 'pascal_context', 1),
        ('clip-dinoiser', 'cityscapes', 'cityscapes', 0),
        ('corrclip', 'voc21', 'seg_voc_plain', 26),
        ('corrclip', 'coco-object', 'seg_coco_plain', 16),
        ('corrclip', 'pascal-context60', 'pascal_context', 1),
        ('corrclip-v2', 'ade20k', 'seg_ade20k', 0),
        ('corrclip-v2', 'cityscapes', 'cityscapes', 0),
        ('corrclip-v2-bank', 'voc21', 'seg_voc_plain', 26),
    ],
)
def test_direct_words(encoder, data, classes, background):
    """The method's own words; of COCO-Object's background without 'bed', which is a class."""
    head, model = direct_head(published_name(encoder, data))
    assert model.head.classes == classes
    assert head.with_background == bool(background)
    if background:
        assert head.own.labels.count(0) == background
    assert set(head.own.labels) == set(range(len(head.vocabulary) + head.with_background))
    if encoder.startswith('corrclip'):
        second = encoder != 'corrclip' and data == 'cityscapes'
        people = 'people, person' if second else 'people'
        own = dict(zip(head.vocabulary.names, head.vocabulary.phrases, strict=True))
        assert own['person'] == (people,)
        assert [len(words) for words in own.values()] == [1] * len(own)


@pytest.mark.parametrize(
    'words, synonyms',
    [
        ('seg_voc_plain', 0),
        ('seg_coco_plain', 0),
        ('seg_coco_background_proxyclip', 0),
        ('seg_voc', 10),
        ('seg_coco', 7),
        ('cityscapes', 0),
        ('seg_cityscapes_itaclip', 7),
        ('seg_cocostuff', 0),
        ('seg_cocostuff_itaclip', 12),
    ],
)
def test_number_of_synonyms(words, synonyms):
    assert sum(len(phrases) - 1 for phrases in Vocabulary.load(words).phrases) == synonyms


@pytest.mark.parametrize(
    'data, views, description',
    [
        ('voc21', 0.7, 0.05),
        ('pascal-context60', 0.75, 0.15),
        ('coco-object', 0.75, 0.1),
        ('cocostuff171', 0.75, 0.2),
        ('cityscapes', 0.7, 0.05),
    ],
)
def test_itaclip_s_published_values(data, views, description):
    head, model = direct_head(f'itaclip_vit-base-p16_openai_{data}')
    assert model.views == {'type': 'mmtagclip.ImageViews', 'weight': views}
    assert (head.description_weight, head.descriptions) == (description, None)
    assert model.logit_processor.iterations == 10
    assert model.label_processor == {'type': 'mmtagclip.LabelClosing', 'size': 3}


# PIAA


PIAA = [leaf for leaf in LEAVES if leaf.startswith('piaa/')]


@pytest.mark.parametrize('leaf', PIAA)
def test_piaa(leaf):
    cfg = load(leaf)
    data = data_of(leaf)
    assert count(cfg.model.classes) == NUM_CLASSES[data]
    assert 'background' not in cfg.model
    assert load_templates(cfg.model.templates) == ('a photo of a {}',)
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        assert loader.dataset.pipeline == cfg.test_pipeline
        assert loader.collate_fn.type == 'pseudo_collate'
    assert not cfg.train_dataloader.sampler.round_up
    edge, crop = cfg.test_pipeline[1:3]
    assert (edge.scale, edge.edge, edge.backend, edge.interpolation, crop.crop_size) == (
        224,
        'short',
        'pillow',
        'bicubic',
        224,
    )
    # By data: temperatures of cleaning, of the class token and of the patches.
    if cfg.model.head.type == 'mmtagclip.PIAAHead':
        head = MODELS.build(cfg.model.head)
        assert (
            head.scorer.clean_temperature,
            head.class_token_temperature,
            head.patch_temperature,
            head.scorer.score_temperature,
        ) == {
            'voc07': (100, 80, 200, 500),
            'voc12': (100, 80, 200, 500),
            'coco14': (0.01, 80, 400, 500),
            'nus-wide': (500, 10, 400, 500),
        }[data]
    else:  # below DMAR and CWR, whose settings are TagCLIP's
        head = cfg.model.head.to_dict()
        scorer = {'type': 'mmtagclip.GaussianClassifier', 'score_temperature': 1.0}
        assert head.pop('scorer') == scorer
        assert {**head, 'threshold': 0.5} == tagclip_head(leaf)


# Pseudo labels


GENERATORS = [leaf for leaf in LEAVES if Path(leaf).name.startswith(('tags_', 'masks'))]
STUDENTS = [leaf for leaf in LEAVES if leaf.startswith('pseudo_labels/') and leaf not in GENERATORS]


def names_of(dataset):
    """Label names of a data set's config."""
    dataset = dataset.get('dataset', dataset)
    if 'classes' not in dataset:
        return None
    path = Path(dataset.classes)
    if path.parts[0] == 'data':  # a rendered set, whose names are the demo's
        path = CONFIGS.parent / 'demo/data' / path.name
    background = ['background'] if 'Seg' in dataset.type else []
    return [*background, *Vocabulary.load(path).names]


def test_folder_configs_follow_the_environment(monkeypatch):
    leaf = CONFIGS / 'pseudo_labels/masks_vit-base-p16_openai_folder.py'
    monkeypatch.delenv('PHOTOS', raising=False)
    assert Config.fromfile(leaf).test_dataloader.dataset.data_prefix == 'data/photos'
    monkeypatch.setenv('PHOTOS', 'holiday')
    assert Config.fromfile(leaf).test_dataloader.dataset.data_prefix == 'holiday'


def test_there_are_students_and_generators():
    names = {Path(leaf).stem for leaf in STUDENTS}
    assert names >= {
        f'{model}_{data}'
        for model in ('deeplabv3plus_r50-d8', 'segformer_mit-b0')
        for data in ('voc12aug', 'coco-object')
    }
    assert names >= {
        'resnet50_voc12',
        'resnet50_coco14',
        'resnet18-w32_demo',
        'segformer_mit-b0_folder',
        'deeplabv3plus_r18-w32_demo',
        'segformer_mit-w16_demo',
        'fcn_vit-w128_demo',
        'vit-w128_demo',
    }
    assert len(GENERATORS) >= 7


@pytest.mark.parametrize('leaf', GENERATORS)
def test_generators(leaf):
    cfg = load(leaf)
    assert cfg.test_cfg.type == 'mmtagclip.GenerateLoop'
    assert cfg.test_evaluator == []
    keys = cfg.test_dataloader.dataset.pipeline[-1]['meta_keys']
    assert {'sample_idx', 'img_path', 'load_error', 'ori_shape'} <= set(keys)
    assert not any('LoadAnnotations' in t['type'] for t in cfg.test_dataloader.dataset.pipeline)
    if Path(leaf).name.startswith('masks_vit'):
        assert cfg.test_cfg.confidence == 0.95  # CLIP-ES
        assert cfg.model.with_probabilities
        assert cfg.model.post_processor.type == 'mmtagclip.DenseCRF'
        assert 'original' in keys


@pytest.mark.parametrize('leaf', STUDENTS)
def test_students(leaf):
    """The student's classes are its labels', the labels are where the generator puts them."""
    cfg = load(leaf)
    train = cfg.train_dataloader.dataset
    if 'true-' in leaf:
        assert train.type != 'mmtagclip.PseudoLabelDataset'
    elif 'folder' in leaf:
        kind = train.labels.split('/')[-2]
        generator = load(f'pseudo_labels/{kind}_vit-base-p16_openai_folder.py')
        assert train.labels == f'{generator.work_dir}/pseudo_labels'
        assert train.dataset.data_prefix in (generator.photos, {'img_path': generator.photos})
    else:
        work_dirs, stem, _ = train.labels.split('/')
        generator = load(f'pseudo_labels/{stem}.py')
        assert work_dirs == 'work_dirs'
        source = generator.test_dataloader.dataset
        for key in ('data_root', 'ann_file', 'image_set_path'):
            assert train.dataset.get(key) == source.get(key)
    heads = [cfg.model.get(key) for key in ('decode_head', 'auxiliary_head', 'head')]
    counts = {head.num_classes for head in heads if head is not None}
    names = names_of(cfg.test_dataloader.dataset) or names_of(train)
    data = Path(leaf).stem.rpartition('_')[2]
    expected = (
        NUM_CLASSES[data]
        if names is None and data in NUM_CLASSES
        else (80 if names is None else len(names))
    )
    assert counts == {expected}
    if names_of(train) is not None and names_of(cfg.test_dataloader.dataset) is not None:
        assert names_of(train) == names_of(cfg.test_dataloader.dataset)


@pytest.mark.parametrize('leaf', [leaf for leaf in STUDENTS if 'true-' not in leaf])
def test_students_are_built_and_learn(leaf):
    """One step of each model from random weights, on noise."""
    cfg = load(leaf)
    cfg = cfg.copy()
    cfg.model.backbone.init_cfg = None
    scope = cfg.default_scope
    with DefaultScope.overwrite_default_scope(scope):
        model = root_registries.MODELS.build(cfg.model)
    images = torch.randn(2, 3, 64, 64)
    if scope == 'mmseg':
        samples = [
            SegDataSample(gt_sem_seg=PixelData(data=torch.full((1, 64, 64), label)))
            for label in (1, 255)
        ]
    else:
        samples = [
            DataSample().set_gt_score(torch.arange(cfg.model.head.num_classes) % 2 * 1.0)
            for _ in range(2)
        ]
    losses = model.loss(images, samples)
    total = sum(value for name, value in losses.items() if 'loss' in name)
    total.backward()
    assert torch.isfinite(total)
    first = next(weight for weight in model.backbone.parameters() if weight.requires_grad)
    assert first.grad.abs().sum() > 0
