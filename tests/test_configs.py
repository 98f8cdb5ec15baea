import json
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
from open_clip.pretrained import get_pretrained_cfg

from mmtagclip.clip import Vocabulary, load_templates
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


def test_there_are_configs():
    assert len(TAGGERS) >= 10


@pytest.mark.parametrize('leaf', LEAVES)
def test_every_type_resolves(leaf):
    cfg = load(leaf)
    # Types without a prefix are MMEngine's and MMPretrain's own.
    types = {entry['type'] for entry in entries(cfg.to_dict()) if 'type' in entry}
    prefixed = {name for name in types if name.startswith(('mmtagclip.', 'mmpretrain.'))}
    if 'train_dataloader' not in cfg:  # where the model is OpenMMLab's own
        assert cfg.model.type in prefixed
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        unknown = [
            name for name in prefixed if all(registry.get(name) is None for registry in REGISTRIES)
        ]
    assert not unknown


def test_names(cfg):
    classes = Vocabulary.load(cfg.model.classes)
    background = Vocabulary.load(cfg.model.get('background', ()))
    assert not set(classes.names) & set(background.names)
    assert load_templates(cfg.model.templates)


def test_architecture_and_weights_are_known(cfg):
    weights = get_pretrained_cfg(cfg.model.encoder.model, cfg.model.encoder.pretrained)
    assert weights, 'open_clip has no such weights'
    assert weights.get('quick_gelu', False) == architecture(cfg).get('quick_gelu', False)


def test_layers_fit_the_architecture(cfg):
    dmar = cfg.model.head.get('dmar')
    if dmar is None:
        pytest.skip('no attention maps')
    blocks = architecture(cfg)['vision_cfg']['layers']
    assert set(dmar['layers']) <= set(range(blocks))
    assert dmar['votes'] * 3 == blocks  # published: 4 of 12


def test_patch_size_is_the_architectures(cfg):
    patch_size = architecture(cfg)['vision_cfg']['patch_size']
    assert transform(cfg, 'ResizeToPatchGrid')['patch_size'] == patch_size


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
    data = without_labels(leaf).rpartition('_')[2]
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


@pytest.mark.parametrize('folder, count', [('tagclip', 2), ('piaa', 12)])
def test_figures_stand_under_their_labels(folder, count):
    """What a metafile calls the data set is what the config evaluates on."""
    figures = [
        (model, result)
        for model in yaml.safe_load((CONFIGS / folder / 'metafile.yml').read_text())['Models']
        for result in model.get('Results', ())
    ]
    assert len(figures) == count
    for model, result in figures:
        cfg = load(model['Config'].removeprefix('configs/'))
        assert result['Dataset'] in label_protocols(cfg), model['Name']


def test_voc07_reports_both_conventions():
    cfg = load('tagclip/tagclip_vit-base-p16_openai_voc07.py')
    conventions = {
        (metric['prefix'], metric.get('difficult_as_positive')) for metric in cfg.test_evaluator
    }
    assert conventions == {('difficult_positive', True), ('difficult_ignored', None)}
    assert len(cfg.test_evaluator) == 4


@pytest.mark.parametrize(
    'name, layers, votes, k',
    [
        ('base-p16_openai_voc07', (8, 9, 10), 4, 0.5),
        ('base-p16_openai_voc12', (8, 9, 10), 4, 0.5),
        ('base-p16_openai_coco14', (8, 9, 10), 4, 0.5),
        ('base-p16_openai_coco17', (8, 9, 10), 4, 0.5),
        ('base-p16_openai_cocostuff', tuple(range(11)), 4, 0.1),
        ('large-p14_openai_voc07', tuple(range(16, 23)), 8, 0.5),
    ],
)
def test_published_values(name, layers, votes, k):
    head = load(f'tagclip/tagclip_vit-{name}.py').model.head
    assert (head.dmar.layers, head.dmar.votes) == (layers, votes)
    assert head.cwr.threshold == head.threshold == k


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


def test_there_are_segmentors():
    names = {leaf.removesuffix('.py').partition('openai_')[2] for leaf in SEGMENTORS}
    assert names >= {
        'voc12',
        'voc12_crf',
        'coco-object',
        'coco-object_crf',
        'cocostuff27',
        'cocostuff27_crf',
        'cocostuff171',
        'pascal-context60',
        'ade20k',
    }


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
        assert resize['patch_size'] == tower['patch_size']
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


@pytest.mark.parametrize(
    'name, layers, threshold, with_background',
    [
        ('voc12', tuple(range(4, 11)), 0.4, True),
        ('coco-object', tuple(range(4, 12)), 0.7, True),
        ('cocostuff27', tuple(range(4, 12)), 0.7, False),
        ('cocostuff171', tuple(range(4, 12)), 0.7, False),
    ],
)
def test_segmentors_published_values(name, layers, threshold, with_background):
    stem = f'cls_seg/cls-seg_vit-base-p16_openai_{name}'
    model = load(f'{stem}.py').model
    assert (model.affinity.layers, model.affinity.box_threshold) == (layers, threshold)
    assert model.get('with_background', True) == with_background
    assert model.templates == 'templates_origami'
    assert 'post_processor' not in model
    if name != 'cocostuff171':  # of which the paper says nothing
        post_processor = load(f'{stem}_crf.py').model.post_processor
        assert post_processor == {'type': 'mmtagclip.DenseCRF'}


@pytest.mark.parametrize('leaf', DEMO_TAGGERS)
def test_demo(leaf):
    cfg = load(leaf)
    assert count(cfg.model.classes) == count(cfg.test_dataloader.dataset.classes) == 50
    assert not set(Vocabulary.load(cfg.model.classes).names) & set(
        Vocabulary.load(cfg.model.background).names
    )
    tower = vision(cfg.model.encoder)
    assert transform(cfg, 'ResizeToPatchGrid')['patch_size'] == tower['patch_size']
    dmar = cfg.model.head.get('dmar')
    if dmar is not None:
        assert set(dmar.layers) <= set(range(tower['layers']))


# Direct segmentation


ENCODERS = ('maskclip', 'sclip', 'clearclip', 'naclip', 'itaclip', 'scclip', 'proxyclip')
DIRECT = [leaf for leaf in LEAVES if leaf.partition('/')[0] in ENCODERS]
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
    return f'{name.removeprefix("tag-guided-").partition("_")[0]}/{name}.py'


@pytest.mark.parametrize('leaf', DIRECT)
def test_direct(leaf):
    cfg = load(leaf)
    head, model = direct_head(Path(leaf).stem)
    data = Path(leaf).stem.removesuffix('_pamr').rpartition('_')[2]
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
    elif not model.windows.get('cut'):
        assert pipeline['mmtagclip.ResizeToPatchGrid'].patch_size == patch
    if Path(leaf).name.startswith('tag-guided'):
        check_tag_guided(cfg, Path(leaf).name.removeprefix('tag-guided-'))


def check_tag_guided(cfg, plain):
    """The direct config of this name, whose classes TagCLIP restricts."""
    model = cfg.model.to_dict()
    tagger, tags = model.pop('tagger'), model.pop('tags')
    assert tags == 'own'
    assert count(tagger['classes']) == count(model['head']['classes'])
    assert not set(Vocabulary.load(tagger['classes']).names) & set(
        Vocabulary.load(tagger.get('background', ())).names
    )
    assert 'last_block' not in tagger['encoder']
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
    name = f'{encoder}_vit-base-p16_openai_{data}'
    head, model = direct_head(name)
    assert (head.logit_scale, head.background_threshold, head.area_threshold) == (
        float(scale),
        float(threshold),
        float(area),
    )
    assert head.templates == f'templates_{templates}'
    resize = load(f'{encoder}/{name}.py').test_pipeline[2]
    long = int(side) if (encoder, data) == ('maskclip', 'pascal-context59') else 2048
    assert (resize.type, resize.scale, resize.keep_ratio) == ('Resize', (long, int(side)), True)
    windows = model.windows.to_dict()
    if window in ('whole', 'cut'):
        assert windows.pop('patch_size', 16) == 16
        expected = {'type': 'mmtagclip.WholeImage', **({'cut': True} if window == 'cut' else {})}
    else:
        expected = {'type': 'mmtagclip.SlidingWindows', 'size': int(window), 'stride': int(stride)}
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
    """Each encoder with each data set; PAMR for NACLIP, tags for three data sets."""
    pairs = [row[:2] for row in published_rows()]
    assert len(pairs) == len(set(pairs)) == 7 * len(DIRECT_CLASSES)
    name = '{}_vit-base-p16_openai_{}'
    assert {Path(leaf).stem for leaf in DIRECT} == {
        *(name.format(*pair) for pair in pairs),
        *(name.format(*pair) + '_pamr' for pair in pairs if pair[0] == 'naclip'),
        *(
            'tag-guided-' + name.format(*pair)
            for pair in pairs
            if pair[1] in ('voc21', 'coco-object', 'cocostuff171')
        ),
        'scclip_vit-large-p14_openai_voc21',
    }


@pytest.mark.parametrize('leaf', [*SEGMENTORS, *DIRECT])
def test_all_segmentors_are_drawn_and_augmented_alike(leaf):
    cfg = load(leaf)
    assert cfg.visualizer.type == 'mmtagclip.MaskVisualizer'
    assert cfg.tta_model == {'type': 'mmtagclip.TrainingFreeTTA'}
    assert cfg.tta_pipeline[-1].type == 'TestTimeAug'
    assert cfg.default_hooks.visualization.type == 'SegVisualizationHook'


# mIoU with ViT-B/16, in the order of DIRECT_CLASSES, as printed; t: in Trident's table.
FIGURES = """
maskclip     -      49.5   -      21.7   -      12.5   -      -
sclip        59.63  81.54  31.74  34.46  33.52  22.77  32.34  16.45
clearclip    -      80.9   -      35.9   -      23.9   30.0   16.7
naclip       58.9t  79.7t  32.2t  35.2t  33.2t  23.3t  35.5t  17.4t
naclip_pamr  64.07  83.03  34.99  38.35  36.19  25.69  38.27  19.05
itaclip      67.9   -      37.5   -      37.7   27.0   40.2   -
scclip       -      -      -      -      -      -      -      -
proxyclip    61.3t  80.3t  35.3t  39.1t  37.5t  26.5t  38.1t  20.2t
"""


@pytest.mark.parametrize('row', FIGURES.strip().splitlines())
def test_published_figures(row):
    method, *figures = row.split()
    encoder, _, variant = method.partition('_')
    models = yaml.safe_load((CONFIGS / encoder / 'metafile.yml').read_text())['Models']
    results = {model['Name']: model.get('Results', []) for model in models}
    for data, figure in zip(DIRECT_CLASSES, figures, strict=True):
        name = f'{encoder}_vit-base-p16_openai_{data}' + (f'_{variant}' if variant else '')
        if figure == '-':
            assert results[name] == []
            continue
        ((metric, value),) = results[name][0]['Metrics'].items()
        assert str(value) == figure.removesuffix('t')
        assert ('Trident' in metric) == figure.endswith('t')


def test_figures_of_direct_configs_name_their_data():
    models = [
        model
        for encoder in ENCODERS
        for model in yaml.safe_load((CONFIGS / encoder / 'metafile.yml').read_text())['Models']
    ]
    figures = [(model['Name'], result) for model in models for result in model.get('Results', ())]
    assert len(figures) >= 39
    for name, result in figures:
        data = name.removesuffix('_pamr').partition('openai_')[2]
        assert result['Dataset'] == DIRECT_DATA[data]
        # Other tables put MaskCLIP under SCLIP's protocol, which its configs do not follow.
        assert not (
            name.startswith('maskclip') and any('Trident' in key for key in result['Metrics'])
        )


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
    ],
)
def test_direct_words(encoder, data, classes, background):
    """The method's own words; of COCO-Object's background without 'bed', which is a class."""
    head, model = direct_head(f'{encoder}_vit-base-p16_openai_{data}')
    assert model.head.classes == classes
    assert head.with_background == bool(background)
    if background:
        assert head.own.labels.count(0) == background
    assert set(head.own.labels) == set(range(len(head.vocabulary) + head.with_background))


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


def test_there_are_piaa_configs_for_each_protocol():
    names = {Path(leaf).stem for leaf in PIAA}
    assert names >= {
        f'piaa-{encoder}_vit-base-p16_openai_{data}'
        for encoder in ('sclip', 'itaclip', 'scclip')
        for data in ('voc07', 'voc12', 'coco14', 'nus-wide')
    }


@pytest.mark.parametrize('leaf', PIAA)
def test_piaa(leaf):
    cfg = load(leaf)
    data = without_labels(leaf).rpartition('_')[2]
    assert count(cfg.model.classes) == NUM_CLASSES[data]
    assert 'background' not in cfg.model
    assert load_templates(cfg.model.templates) == ('a photo of a {}',)
    assert cfg.model.encoder.positions == 'bicubic_scale'
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
