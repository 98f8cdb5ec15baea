"""What belongs to a job: every option of every registered part, by itself."""

import dataclasses
import functools
import inspect
import json
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.dataset import Compose
from mmengine.model import BaseTTAModel
from PIL import Image
from torch import nn

import mmtagclip.datasets
import mmtagclip.models  # noqa: F401
from mmtagclip.clip import Vocabulary
from mmtagclip.jobs.description import differences, file_stamp, flatten
from mmtagclip.jobs.identity import dataset_sources, identity
from mmtagclip.regions.bank import MemoryBank, source_identity
from mmtagclip.registry import MODELS, TRANSFORMS
from tests.conftest import TINY
from tests.golden.regions.stand_ins import sam_state_dict
from tests.golden.sam3 import TINY_SAM3, sam3_state_dict
from tests.regions.test_bank import write
from tests.regions.test_references import write_references
from tests.sam import sam_config, save, tiny_sam2

# Arguments that no result depends on; frameworks set most of them.
RULE = {'min_score': 0.25, 'top': 3}
IGNORED = {'init_cfg', 'pretrained', 'train_cfg', 'test_cfg', 'download', 'max_phrases'}
HEAD = {'type': 'mmtagclip.TagCLIPHead'}
DMAR = {'type': 'mmtagclip.DMAR', 'layers': [8, 9]}
CWR = {'type': 'mmtagclip.CWR'}
GAUSS = {'type': 'mmtagclip.GaussianClassifier'}
TEXT_HEAD = {
    'type': 'mmtagclip.SegTextHead',
    'classes': ['dog', 'cat'],
    'background': ['sky'],
    'templates': ['a {}.'],
}
AFFINITY = {'type': 'mmtagclip.AffinityRefinement', 'layers': [4, 5], 'box_threshold': 0.4}
PAMR = {'type': 'mmtagclip.PAMR'}
TIMM = {'type': 'mmtagclip.TimmFeatures', 'model': 'vit_tiny_patch16_224'}


@pytest.fixture(scope='module')
def parts(encoder_config, sam3_config, checkpoint, state_dict, tmp_path_factory):
    """Of each part the options that it can't be built without, or that others depend on."""
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp('other')
    save_file(
        {**state_dict, 'visual.proj': state_dict['visual.proj'] + 0.01}, folder / 'w.safetensors'
    )
    vit = __import__('timm').create_model('vit_tiny_patch16_224', num_classes=0)
    save_file(vit.state_dict(), folder / 'vit.safetensors')
    save_file({k: v + 1 for k, v in vit.state_dict().items()}, folder / 'vit2.safetensors')
    tagger = {
        'type': 'mmtagclip.TagCLIP',
        'encoder': encoder_config,
        'classes': ['dog', 'cat'],
        'background': ['sky'],
        'templates': ['{}'],
        'head': HEAD,
    }
    other_encoder = {**encoder_config, 'positions': 'bicubic'}
    timm = {**TIMM, 'checkpoint': str(folder / 'vit.safetensors')}
    sam = sam_config(folder)
    other_sam = {
        **sam,
        'checkpoint': str(save(sam_state_dict(seed=13), folder / 'sam2.safetensors')),
    }
    sam3_weights = {key: value + 1 for key, value in sam3_state_dict().items()}
    save_file(sam3_weights, folder / 'sam3.safetensors')
    other_sam3 = {**sam3_config, 'checkpoint': str(folder / 'sam3.safetensors')}
    encoder = MODELS.build(encoder_config)
    other_timm = {**timm, 'checkpoint': str(folder / 'vit2.safetensors')}
    facts = {
        'encoder': encoder.identity,
        'source': source_identity(MODELS.build(timm)),
    }
    vectors = torch.eye(8)
    bank = str(write(folder / 'bank.safetensors', vectors, vectors, **facts))
    other_bank = str(write(folder / 'bank2.safetensors', vectors[:4], vectors[:4], **facts))
    if find_spec('faiss'):
        MemoryBank(bank).add_index('IVF2,Flat')
    weights = {'obj_proj.weight': torch.ones(2, 128, 3, 3), 'obj_proj.bias': torch.zeros(2)}
    save_file(weights, folder / 'pooling.safetensors')
    pooling = {
        'type': 'mmtagclip.LearntPooling',
        'checkpoint': str(folder / 'pooling.safetensors'),
        'clip': None,
    }
    bank_processor = {'type': 'mmtagclip.BankProcessor', 'bank': bank, 'source': timm}
    references, other_references = (
        str(write_references(folder / f'references{number}.safetensors', number))
        for number in (1, 2)
    )
    concepts = {
        'sam3': sam3_config,
        'classes': ['dog', 'cat'],
        'background': ['background'],
    }
    needed = {
        'BankProcessor': {'bank': bank},
        'ConceptSegmentor': concepts,
        'HypernymContext': {'words': {'dog': ['canine', 'animal', 'thing']}, 'count': 1},
        'MarginBackground': {'threshold': 0.4},
        'MaximumBackground': {'threshold': 0.4},
        'EncoderFeatures': {'encoder': encoder_config},
        'ReferenceEncoder': {'encoder': encoder_config, 'source': timm},
        'ReferenceProcessor': {'bank': references, 'source': timm},
        'RegionEncoder': {'encoder': encoder_config, 'source': timm},
        'SAM': sam,
        'SAMGatherer': {'sam': sam},
        'SAMRefinement': {'sam': sam},
        'SAMRegions': {'sam': sam},
        'SAM2Regions': {'model': f'local-dir:{tiny_sam2(folder / "one")}'},
        'Sam3': sam3_config,
        'AffinityRefinement': {'layers': [4, 5], 'box_threshold': 0.4},
        'CLIPEncoder': encoder_config,
        'CLSSeg': {'tagger': tagger, 'affinity': AFFINITY, 'background_prompts': ['sky']},
        'DMAR': DMAR,
        'DirectSegmentor': {'encoder': encoder_config, 'head': TEXT_HEAD},
        'PIAAHead': {'scorer': GAUSS},
        'PoolingTrainer': {'encoder': {**encoder_config, 'pooling': pooling}},
        'CorrCLIPLastBlock': {'source': timm},
        'ProxyLastBlock': {'source': timm},
        'SegTextHead': {**TEXT_HEAD, 'descriptions': ['a dog', 'a cat']},
        'TagCLIP': tagger,
        'TimmFeatures': timm,
        'ITACLIPLastBlock': {'layers': [6, 7]},
    }
    # Another valid value, where it does not follow from the value that is there.
    others = {
        'BankProcessor': {
            'bank': other_bank,
            'source': timm,
            'search': 'faiss' if find_spec('faiss') else ...,
            'others': [{'encoder': encoder_config, 'bank': bank}],
            'templates': ['a {}.'],
        },
        'ConceptSegmentor': {
            'sam3': other_sam3,
            'classes': ['dog', ('cat', 'kitten')],
            'background': ['sky'],
            'background_rule': {'type': 'mmtagclip.MarginBackground', 'threshold': 0.4},
            'preview': {'type': 'mmtagclip.Preview', 'side': 112},
            'context': [{'type': 'mmtagclip.NeighbourContext', 'count': 1}],
            'tags': 'given',
            'tagger': (tagger, {'tags': 'own'}),
            'max_side': (640, {'tags': 'own', 'tagger': tagger}),
            'label_processor': {'type': 'mmtagclip.LabelClosing'},
        },
        'HypernymContext': {'words': {'dog': ['pet']}},
        'EncoderFeatures': {'encoder': other_encoder},
        'ReferenceEncoder': {
            'encoder': other_encoder,
            'source': other_timm,
            'contexts': ['sky', 'tree'],
            'templates': ['a {}'],
            'side': 64,
        },
        'ReferenceProcessor': {
            'bank': other_references,
            'source': other_timm,
            'join': 'product',
        },
        'RegionEncoder': {
            'encoder': other_encoder,
            'source': other_timm,
            'windows': {'type': 'mmtagclip.SlidingWindows'},
        },
        'SAM': {
            'model': 'sam_vit_l',
            'checkpoint': other_sam['checkpoint'],
            'sizes': {**sam['sizes'], 'decoder_heads': 2},
        },
        'SAMGatherer': {'sam': other_sam, 'negative': 0.6, 'halves': 'equal'},
        'SAMRefinement': {'sam': other_sam, 'patch_size': 16},
        'SAMRegions': {'sam': other_sam},
        'SAM2Regions': {'model': f'local-dir:{tiny_sam2(folder / "two")}'},
        'Sam3': {
            'model': {
                **TINY_SAM3,
                'text_config': {**TINY_SAM3['text_config'], 'hidden_act': 'relu'},
            },
            'checkpoint': other_sam3['checkpoint'],
            'dtype': 'bfloat16',
            'text_cache': ...,  # features are the same with a cache
        },
        'AffinityRefinement': {'layer_weights': [1, 2]},
        'SurgeryCAM': {'last_block': {'type': 'mmtagclip.SVCLastBlock'}},
        'CLIPEncoder': {
            'model': {**TINY, 'quick_gelu': False},
            'checkpoint': str(folder / 'w.safetensors'),
            'quick_gelu': False,
            'last_block': {'type': 'mmtagclip.NACLIPLastBlock'},
            'dtype': 'bfloat16',
            'positions': 'bicubic',
            'mean': (0.5, 0.5, 0.5),
            'std': (0.5, 0.5, 0.5),
            'text_cache': None,
            'compiled': True,
            'tower': ...,  # open_clip's ViT takes no options of this kind
            'tokenizer': ...,  # text features count themselves
            'pooling': pooling,
        },
        'CLSSeg': {
            'tagger': {**tagger, 'head': {**HEAD, 'threshold': 0.4}},
            'affinity': {**AFFINITY, 'iterations': 2},
            'prompts': ['hound', 'cat'],
            'background_prompts': ['sea'],
            'templates': ['a {}'],
            'cam': {'type': 'mmtagclip.SoftmaxGradCAM', 'max_tags': 3},
            'post_processor': PAMR,
            'label_processor': {'type': 'mmtagclip.LabelClosing'},
            'tags': 'given',
            'label_map': ([0, 0], {'groups': ['animal'], 'with_background': False}),
            'groups': (['beast'], {'label_map': [0, 0], 'with_background': False}),
        },
        'DirectSegmentor': {
            'encoder': other_encoder,
            'head': {**TEXT_HEAD, 'logit_scale': 30.0},
            'windows': {'type': 'mmtagclip.SlidingWindows'},
            'views': {'type': 'mmtagclip.ImageViews'},
            'patch_processor': {'type': 'mmtagclip.MaskCLIPRefinement'},
            'cosine_processor': bank_processor,
            'gatherer': (
                {'type': 'mmtagclip.SAMGatherer', 'sam': sam},
                {'windows': {'type': 'mmtagclip.SlidingWindows'}},
            ),
            'logit_processor': PAMR,
            'post_processor': PAMR,
            'label_processor': {'type': 'mmtagclip.LabelClosing'},
            'tags': 'given',
            'tagger': (tagger, {'tags': 'own'}),
            'max_side': (640, {'tags': 'own', 'tagger': tagger}),
        },
        'ClassTokenHead': {**RULE, 'scoring': 'cosine'},
        'DMAR': {'votes': 1},
        'CorrCLIPLastBlock': {
            'source': {**timm, 'checkpoint': str(folder / 'vit2.safetensors')},
            'merge': False,
            'spatial_layers': [3, 4],
        },
        'LearntPooling': {
            'checkpoint': ...,  # its weights count
            'clip': ...,  # which only refuses a checkpoint
        },
        'PIAAHead': {'scorer': {**GAUSS, 'score_temperature': 1.0}, **RULE},
        'PoolingTrainer': {
            'encoder': {**encoder_config, 'pooling': {**pooling, 'gamma': 0.3}},
            'teacher': timm,
        },
        'ProxyLastBlock': {'source': {**timm, 'checkpoint': str(folder / 'vit2.safetensors')}},
        'SegTextHead': {
            'classes': ['dog', 'fox'],
            'background': ['sea'],
            'templates': ['{}'],
            'descriptions': ['a hound', 'a cat'],
            'scoring': 'sigmoid',
            'replace': {'dog': 'hound'},
            'average': 'probabilities',
            'objectness_threshold': (0.5, {'average': 'probabilities'}),
        },
        'SlidingWindows': {'pad_to': 56, 'patch_size': 16},
        'TagCLIP': {
            'encoder': other_encoder,
            'head': {'type': 'mmtagclip.ClassTokenHead'},
            'classes': ['dog', 'fox'],
            'background': ['sea'],
            'templates': ['a {}'],
            'thresholds': {'dog': 0.3},
            'descriptions': {'dog': ['furry'], 'cat': ['soft']},
        },
        'TagCLIPHead': {
            'dmar': DMAR,
            'cwr': CWR,
            'scorer': GAUSS,
            **RULE,
            'scoring': 'sigmoid',
            'shortlist': 2,
        },
        'WholeImage': {'patch_size': 8},
        'TimmFeatures': {
            'model': 'vit_tiny_patch16_224.augreg_in21k',
            'checkpoint': str(folder / 'vit2.safetensors'),
            'kwargs': {'drop_rate': 0.5},
            'positions': 'bicubic_scale',
            'tokens': 'q+k',
            'fit': 'nearest',
            'pretrained': ...,  # in the place of a checkpoint, with a download
        },
        'SCCLIPLastBlock': {
            'similarity_layer': 7,
            'output_layer': 2,
            'fusion_layers': [3, 4],
            'class_token_weight': 0.2,
        },
        'CLIPDataPreprocessor': {'mean': (0.5, 0.5, 0.5), 'std': (0.5, 0.5, 0.5)},
    }
    return needed, others


def own_classes(registry):
    registry.import_all()
    return sorted(
        name
        for name, part in registry.module_dict.items()
        if inspect.isclass(part) and part.__module__.startswith('mmtagclip.')
    )


def another(value):
    """Another value of an option of a plain type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 2  # some are odd
    if isinstance(value, float):
        return value / 2 if value else 0.25
    if isinstance(value, list | tuple) and value and all(isinstance(one, int) for one in value):
        return [*value, value[-1] + 1]
    raise NotImplementedError(f'say in this test which other value {value!r} may have')


def described(registry, name, options):
    """A part as it belongs to a job, which holds the names of the labels by themselves."""
    part = registry.build({'type': f'mmtagclip.{name}', **deepcopy(options)})
    labels = getattr(part, 'dataset_meta', {}).get('classes')
    return flatten({'classes': labels, 'part': identity(part)})


@pytest.mark.parametrize('name', own_classes(MODELS))
def test_every_option_of_a_model_counts(name, parts):
    if issubclass(MODELS.get(f'mmtagclip.{name}'), BaseTTAModel) or inspect.isabstract(
        MODELS.get(f'mmtagclip.{name}')
    ):
        pytest.skip('has no options of its own')
    if name == 'DenseCRF':
        pytest.importorskip('pydensecrf')
    needed, others = parts
    base = {key: value for key, value in needed.get(name, {}).items() if key != 'type'}
    plain = described(MODELS, name, base)
    assert described(MODELS, name, base) == plain
    json.dumps(plain)
    parameters = inspect.signature(MODELS.get(f'mmtagclip.{name}').__init__).parameters
    for option in parameters.keys() - IGNORED - {'self', 'kwargs', 'data_preprocessor'}:
        value = others.get(name, {}).get(option)
        with_others = {}
        if value is None and option != 'text_cache':
            value = another(base.get(option, parameters[option].default))
        if value is ...:
            continue
        if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], dict):
            value, with_others = value
            if option in ('label_map', 'groups'):
                before = described(
                    MODELS, name, {**base, **with_others, 'label_map': [0, 0], 'groups': ['animal']}
                )
                changed = (
                    {'label_map': [0, 1], 'groups': ['animal', 'thing']}
                    if option == 'label_map'
                    else {'label_map': [0, 0], 'groups': value}
                )
                after = described(MODELS, name, {**base, **with_others, **changed})
                assert differences(before, after), f'{name}.{option}'
                continue
        before = described(MODELS, name, {**base, **with_others}) if option != 'tagger' else plain
        if name == 'CLIPEncoder' and option in ('mean', 'std', 'quick_gelu', 'model'):
            with_others = {'quick_gelu': False} if option == 'model' else {}
        after = described(MODELS, name, {**base, **with_others, option: value})
        assert differences(before, after), f'{name}.{option}'


@pytest.mark.parametrize('name', own_classes(TRANSFORMS))
def test_every_option_of_a_transform_counts(name, tmp_path):
    tags = tmp_path / 'tags.txt'
    tags.write_text('a 0 1\n')
    (tmp_path / 'other.txt').write_text('a 0\n')
    for folder, ids in (('regions', [[0, 1]]), ('others', [[0, 1, 1]])):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.array(ids, dtype=np.uint8)).save(tmp_path / folder / 'a.png')
    needed = {
        'LoadTags': {'tag_file': str(tags), 'classes': ['dog', 'cat', 'bus']},
        'LoadRegions': {'path': str(tmp_path / 'regions')},
    }.get(name, {})
    others = {
        'on_error': 'skip',
        'size': (64, 64),
        'max_side': 99,
        'patch_size': 8,
        'tag_file': str(tmp_path / 'other.txt'),
        'path': str(tmp_path / 'others'),
        'classes': ...,  # tags count as they were read, by number
        'min_score': ...,  # only for a COCO file, below
    }
    plain = described(TRANSFORMS, name, needed)
    assert described(TRANSFORMS, name, needed) == plain
    for option, parameter in inspect.signature(TRANSFORMS.get(name).__init__).parameters.items():
        if option in ('self', 'args', 'kwargs') or others.get(option) is ...:
            continue
        value = others[option] if option in others else another(parameter.default)
        assert differences(plain, described(TRANSFORMS, name, {**needed, option: value})), option
    if name == 'LoadTags':
        tags.write_text('a 0 2\n')
        assert differences(plain, described(TRANSFORMS, name, needed))
    if name == 'LoadRegions':
        (tmp_path / 'regions' / 'b.png').write_bytes(b'')
        assert differences(plain, described(TRANSFORMS, name, needed))
        coco = tmp_path / 'regions.json'
        mask = {'image_id': 1, 'segmentation': [], 'score': 1}
        coco.write_text(json.dumps({'images': [], 'annotations': [mask]}))
        every, some = (
            described(TRANSFORMS, name, {'path': str(coco), 'min_score': score})
            for score in (0.0, 0.5)
        )
        assert differences(every, some)


@dataclasses.dataclass
class Options:
    size: int = 1
    words: tuple = ('a', 'b')


class Part:
    """Anything with attributes; a transform too."""

    def __init__(self, **values):
        vars(self).update(values)

    def __call__(self, results):
        return results


@pytest.mark.parametrize(
    'values',
    [
        (1, 2, 1.5, '1', None, True),
        ([1, 2], [2, 1], [1]),
        ({'a': 1}, {'a': 2}, {'b': 1}),
        (torch.zeros(2), torch.zeros(2, 1), torch.zeros(2).double(), torch.ones(2)),
        (torch.zeros(2), torch.zeros(2, dtype=torch.int32)),  # of the same bytes
        (np.zeros(2), np.zeros(2, np.float32), np.ones(2)),
        (np.zeros(2), np.zeros(2, np.int64), np.zeros((2, 1))),
        (Options(), Options(2), Options(words=('a',))),
        (Vocabulary.load(['a', 'b']), Vocabulary.load([('a', 'b')])),
        (nn.Linear, nn.Conv2d, print, file_stamp),
        (
            functools.partial(print, end=''),
            functools.partial(print, end='x'),
            functools.partial(print, 1),
        ),
        (Path('a'), Path('b')),
        (torch.float32, torch.bfloat16),
        (Compose([Part()]), Compose([Part(a=1)]), Compose([])),
        (nn.ReLU(), nn.GELU(), nn.GELU(approximate='tanh')),
        ({1, 2}, {1, 3}),
        (b'a', b'b'),
    ],
)
def test_different_values_are_told_apart(values):
    descriptions = [json.dumps(identity(Part(value=value)), sort_keys=True) for value in values]
    assert len(set(descriptions)) == len(values)
    again = [json.dumps(identity(Part(value=deepcopy(one))), sort_keys=True) for one in values]
    assert again == descriptions


def test_weights_count_wherever_they_are():
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    before = identity(module)
    module.eval()
    assert identity(module) == before
    module[1].running_mean.add_(1)
    assert identity(module) != before


def test_modules_of_other_packages_are_one_digest_unless_they_hold_ours():
    library = identity(nn.Sequential(nn.Linear(2, 2)))
    assert library.startswith('Sequential ')
    closing = MODELS.build({'type': 'mmtagclip.LabelClosing'})
    assert identity(nn.Sequential(closing))['0'] == identity(closing)


def test_what_can_not_be_described_is_named():
    with pytest.raises(TypeError, match=r"Part\.inner\.words\['a'\] is a generator"):
        identity(Part(inner=Part(words={'a': (one for one in ())})))
    assert identity(Part(_inner=(one for one in ()))) == identity(Part())


def test_parts_that_hold_each_other():
    one, two = Part(), Part()
    one.other, two.other = two, one
    assert identity(one) == identity(one)


def test_sources_of_a_data_set(tmp_path):
    (tmp_path / 'a.jpg').write_bytes(b'123')
    (tmp_path / 'a.png').write_bytes(b'1')

    class Data(list):
        def get_data_info(self, index):
            return {'img_path': self[index], 'seg_map_path': str(tmp_path / 'a.png'), 'label': 1}

    one, two = dataset_sources(Data([str(tmp_path / 'a.jpg'), str(tmp_path / 'gone.jpg')]))
    assert one.name == str(tmp_path / 'a.jpg')
    assert [stamp[0] for stamp in one.stamp] == [3, 1]
    assert two.stamp[0] is None
    (tmp_path / 'a.png').write_bytes(b'12')  # the mask decides where tags come from it
    assert dataset_sources(Data([str(tmp_path / 'a.jpg')]))[0] != one
