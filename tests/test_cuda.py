"""CUDA beside the CPU, in float32 without TF32. Skipped where there is no CUDA device.

``MMTAGCLIP_TEST_DEVICE=cpu`` compares the CPU with itself, which shows only that the tests run.
``-rP`` prints the largest differences beside what is allowed.
"""

import json
import os
from copy import deepcopy

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from mmtagclip.apis import Analysis, Embedder, SegInferencer, TagInferencer, list_images
from mmtagclip.clip import LAST_BLOCKS, DenseEncoder, TextEncoder, Vocabulary, load_clip
from mmtagclip.models import GaussianClassifier
from mmtagclip.models.taggers.piaa import PatchBank, gaussian_fit
from mmtagclip.regions import ProxyLastBlock, TimmFeatures
from mmtagclip.registry import MODELS
from tests.conftest import picture
from tests.models.segmentors.test_direct import BACKGROUND, CLASSES
from tests.models.segmentors.test_direct import batch as seg_batch
from tests.models.taggers import test_golden, test_piaa
from tests.models.taggers.test_tagger import HEAD, NAMES, batch
from tests.processes import ROOT, run_script

DEVICE = os.environ.get('MMTAGCLIP_TEST_DEVICE', 'cuda')
pytestmark = pytest.mark.skipif(
    DEVICE.startswith('cuda') and not torch.cuda.is_available(), reason='needs a CUDA device'
)
SETS = [(8, 9, 10), (4, 11)]
SCENES = [ROOT / f'demo/data/JPEGImages/{name}.jpg' for name in ('000040', '000045', '000050')]
TAGGER = {
    'type': 'mmtagclip.TagCLIP',
    'head': HEAD,
    'classes': NAMES,
    'background': ['sky', 'grass'],
    'templates': ['a photo of a {}.'],
}


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    """Full float32: torch lets convolutions use TF32 by default, products not."""
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', False)
    assert torch.get_float32_matmul_precision() == 'highest'


def close(what, mine, reference, atol):
    """Compare tensors or arrays of any device, and print the largest difference."""
    mine, reference = (torch.as_tensor(one).detach().cpu().double() for one in (mine, reference))
    assert mine.shape == reference.shape
    difference = (mine - reference).abs().max().item()
    print(f'{what}: {difference:.1e}, allowed {atol:.0e}')
    assert difference <= atol, what


def same_labels(what, mine, reference, share):
    """Compare masks, of which a share may differ where two labels are as good."""
    mine, reference = (torch.as_tensor(one).cpu() for one in (mine, reference))
    assert mine.shape == reference.shape
    differ = (mine != reference).double().mean().item()
    print(f'{what}: {100 * differ:.3f} % of the pixels differ, allowed {100 * share:.1f} %')
    assert differ <= share, what


def both(config):
    """The model of a config on the device, and on the CPU."""
    return MODELS.build(deepcopy(config)).to(DEVICE), MODELS.build(deepcopy(config))


def images(count, height, width):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, height, width, generator=generator)


def compare_encoders(mine, reference):
    given = images(3, 96, 160)
    one, two = (
        encoder(given.to(next(encoder.parameters()).device), SETS, votes=True)
        for encoder in (mine, reference)
    )
    assert one.patches.device.type == torch.device(DEVICE).type
    for key in ('patches', 'class_token'):
        close(key, getattr(one, key), getattr(two, key), 2e-5)
    close('last_input', one.last_input, two.last_input, 1e-4)
    for layers in SETS:
        close(f'mean of {layers}', one.attention.mean(layers), two.attention.mean(layers), 1e-5)
    votes = one.attention.votes.cpu() != two.attention.votes
    assert votes.double().mean() <= 1e-3


@pytest.mark.parametrize('policy', LAST_BLOCKS)
def test_dense_encoder_with_every_last_block(clip, policy):
    mine = DenseEncoder(load_clip(clip), LAST_BLOCKS[policy]()).to(DEVICE)
    compare_encoders(mine, DenseEncoder(load_clip(clip), LAST_BLOCKS[policy]()))


@pytest.mark.parametrize('keep_grid', [False, True])
def test_features_of_another_model(clip, tmp_path, keep_grid):
    """ProxyCLIP's last block, by a small ViT of random weights."""
    small = {'embed_dim': 48, 'depth': 2, 'num_heads': 3, 'img_size': 64, 'patch_size': 8}
    torch.manual_seed(0)
    vit = timm.create_model('vit_tiny_patch16_224', num_classes=0, dynamic_img_size=True, **small)
    save_file(vit.state_dict(), tmp_path / 'vit.safetensors')

    def encoder():
        source = TimmFeatures(
            'vit_tiny_patch16_224', checkpoint=tmp_path / 'vit.safetensors', kwargs=small
        )
        return DenseEncoder(load_clip(clip), ProxyLastBlock(source, keep_grid=keep_grid))

    given = images(2, 64, 96)
    one, two = encoder().to(DEVICE)(given.to(DEVICE)), encoder()(given)
    assert one.grid == two.grid
    close('patches', one.patches, two.patches, 2e-5)


def test_class_token_of_some_patches(clip, encoder):
    mine = DenseEncoder(load_clip(clip)).to(DEVICE)
    given = images(3, 64, 96)
    seen = torch.rand(3, 24, generator=torch.Generator().manual_seed(1)) > 0.5
    got = mine.encode_class_token(given.to(DEVICE), seen.to(DEVICE))
    close('class token', got, encoder.encode_class_token(given, seen), 2e-5)
    got = mine.ordinary_class_token(mine(given.to(DEVICE)))
    close('ordinary', got, encoder.ordinary_class_token(encoder(given)), 2e-5)


@pytest.mark.parametrize('dtype, atol', [('bfloat16', 0.03), ('float16', 0.005)])
def test_narrow_products(clip, encoder, dtype, atol):
    mine = DenseEncoder(load_clip(clip), dtype=dtype).to(DEVICE)
    given = images(2, 96, 160)
    got = mine(given.to(DEVICE), SETS, votes=True)
    assert got.patches.dtype == torch.float32
    close('patches', got.patches, encoder(given).patches, atol)


def test_text_features_and_what_identifies_them(clip, encoder):
    mine = DenseEncoder(load_clip(clip)).to(DEVICE)
    names = Vocabulary.load([*NAMES, 'a name of several words'])
    one, two = (TextEncoder(each, ['a photo of a {}.', '{}'], False) for each in (mine, encoder))
    close('text', one(names), two(names), 1e-5)
    assert one._key(('dog',)) == two._key(('dog',))
    assert {**mine.identity, 'name': encoder.name} == encoder.identity


@pytest.mark.parametrize('image', test_golden.image_names())
def test_published_arrays(clip, image):
    """The coarse scores, DMAR, the image scores and CWR of the released code."""
    mine = DenseEncoder(load_clip(clip)).to(DEVICE)
    for key, value, golden in test_golden.computed(mine, image):
        close(key, value, golden, 5e-5)


def test_tagger_in_a_mixed_batch(encoder_config):
    sizes = [(64, 96, 1), (96, 64, 2), (64, 96, 3), (16, 16, 4), (16, 80, 5)]
    mine, reference = both({**TAGGER, 'encoder': encoder_config})
    samples = zip(mine.test_step(batch(*sizes)), reference.test_step(batch(*sizes)), strict=True)
    for one, two in samples:
        close('scores', one.pred_score, two.pred_score, 5e-5)
        assert one.tags == two.tags


def test_torch_s_default_of_tf32_changes_little(encoder_config, monkeypatch):
    """Convolutions in TF32, as torch does by default, are those of the patch embedding."""
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', True)
    mine, reference = both({**TAGGER, 'encoder': encoder_config})
    given = images(2, 64, 96)
    close('patches', mine.encoder(given.to(DEVICE)).patches, reference.encoder(given).patches, 0.02)


def test_piaa_s_bank_and_fit():
    golden = test_piaa.GOLDEN
    banks = []
    for device in (DEVICE, 'cpu'):
        bank = PatchBank(golden['text'].to(device), 110, 60.0)
        for patches in test_piaa.unit(golden['train']).flatten(0, 1).to(device).split(90):
            bank.add(patches)
        banks.append(bank)
    mine, reference = banks
    close('bank', mine.features, reference.features, 1e-6)
    merged = PatchBank(mine.text, 110, 60.0)
    merged.merge(mine.features, mine.entropies)
    close('merged', merged.features, reference.features, 1e-6)
    weight, bias = gaussian_fit(*mine.content(), mine.text)
    close('first weight', weight, golden['stage1/W'], 1e-4)
    close('first bias', bias, golden['stage1/b'], 1e-4)
    classifiers = [GaussianClassifier(bank_size=110) for _ in banks]
    for classifier, bank in zip(classifiers, banks, strict=True):
        classifier.fit(bank)
    close('weight', classifiers[0].weight, classifiers[1].weight, 1e-4)
    close('bias', classifiers[0].bias, classifiers[1].bias, 1e-4)


def test_piaa_in_a_tagger(encoder_config):
    taggers = both(test_piaa.config(encoder_config))
    for tagger in taggers:
        bank = tagger.head.scorer.bank(tagger.text)
        for sample in batch(*test_piaa.SIZES)['inputs']:
            given = tagger.data_preprocessor({'inputs': [sample]})['inputs'][0][None]
            bank.add(tagger.encoder(given).patches[0])
        tagger.head.scorer.fit(bank)
    samples = [tagger.test_step(batch((96, 80, 7), (64, 96, 8))) for tagger in taggers]
    for one, two in zip(*samples, strict=True):
        close('scores', one.pred_score, two.pred_score, 1e-4)


def segmentor_config(kind, encoder_config):
    """Configs that together use all parts that compute on images."""
    if kind == 'cls_seg':
        return {
            'type': 'mmtagclip.CLSSeg',
            'tagger': {**TAGGER, 'encoder': encoder_config},
            'affinity': {'type': 'mmtagclip.AffinityRefinement', 'layers': (4, 5, 6)},
            'background_prompts': ['sky', 'grass'],
            'with_probabilities': True,
            'post_processor': {'type': 'mmtagclip.PAMR'},
        }
    direct = {
        'type': 'mmtagclip.DirectSegmentor',
        'encoder': {**encoder_config, 'last_block': {'type': 'mmtagclip.SCLIPLastBlock'}},
        'head': {
            'type': 'mmtagclip.SegTextHead',
            'classes': CLASSES,
            'background': BACKGROUND,
            'templates': ['a photo of a {}.'],
        },
    }
    windows = {'windows': {'type': 'mmtagclip.SlidingWindows', 'size': 64, 'stride': 32}}
    thresholds = {'background_threshold': 0.16, 'area_threshold': 0.1}
    return {
        **direct,
        **{
            'windows': windows,
            'probabilities': {**windows, 'with_probabilities': True},
            'thresholds': {**windows, 'head': {**direct['head'], **thresholds}},
            'views': {
                **windows,
                'views': {'type': 'mmtagclip.ImageViews'},
                'logit_processor': {'type': 'mmtagclip.PAMR'},
                'label_processor': {'type': 'mmtagclip.LabelClosing'},
            },
            'maskclip': {
                'patch_processor': {
                    'type': 'mmtagclip.MaskCLIPRefinement',
                    'prompt_denoising': 0.2,
                    'key_smoothing': 1.0,
                }
            },
            'tag-guided': {
                'tags': 'own',
                'tagger': {**TAGGER, 'classes': CLASSES, 'background': BACKGROUND},
                'post_processor': {'type': 'mmtagclip.PAMR'},
            },
        }[kind],
    }


@pytest.mark.parametrize(
    'kind',
    ['cls_seg', 'windows', 'probabilities', 'thresholds', 'views', 'maskclip', 'tag-guided'],
)
def test_segmentors(encoder_config, kind):
    sizes = [(96, 80, 5), (64, 128, 2)]
    models = both(segmentor_config(kind, encoder_config))
    samples = [model.test_step(seg_batch(*sizes)) for model in models]
    for one, two in zip(*samples, strict=True):
        assert one.get('tags') == two.get('tags')
        same_labels('mask', one.pred_sem_seg.data, two.pred_sem_seg.data, 0.01)
        if 'probabilities' in two:
            close('probabilities', one.probabilities.data, two.probabilities.data, 2e-3)


@pytest.mark.parametrize('name', ['tagclip_demo', 'dmar_demo', 'clip_demo'])
def test_tag_inferencer(name):
    mine, reference = (
        TagInferencer(name, device=device, show_progress=False) for device in (DEVICE, 'cpu')
    )
    options = {'batch_size': 2, 'score_maps': name != 'clip_demo'}
    for one, two in zip(mine(SCENES, **options), reference(SCENES, **options), strict=True):
        close('scores', one.scores, two.scores, 1e-4)
        assert one.tags.keys() == two.tags.keys()
        if two.score_maps is not None:
            # A pair of patches whose attention is a layer's mean may get a vote here and none
            # there; an H200 gave 0.003 at such a patch, and 3e-7 elsewhere.
            close('score maps', one.score_maps, two.score_maps, 0.01)
            far = np.abs(one.score_maps - two.score_maps) > 1e-4
            assert far.mean() < 0.001
    names = ['bell', 'train', 'zebra']
    one, two = (each(SCENES[0], classes=names)[0] for each in (mine, reference))
    close('scores of other names', one.scores, two.scores, 1e-4)


@pytest.mark.parametrize('name', ['cls-seg_demo', 'cls-seg_demo_pamr', 'tag-guided_demo'])
def test_seg_inferencer_and_analysis(name):
    mine, reference = (
        SegInferencer(name, device=device, show_progress=False) for device in (DEVICE, 'cpu')
    )
    for one, two in zip(mine(SCENES), reference(SCENES), strict=True):
        assert set(one.tags) == set(two.tags)
        same_labels('mask', one.mask, two.mask, 0.002)
    if name == 'cls-seg_demo':
        (image,) = list_images(SCENES[0])
        one, two = (Analysis(each.model, image.read()) for each in (mine, reference))
        for step, stage in two.stages().items():
            close(step, one.stages()[step].scores, stage.scores, 1e-4)
        same_labels('mask', one.masks().mask, two.masks().mask, 0.002)


def test_embedder():
    mine, reference = (Embedder('tagclip_demo', device, max_side=96) for device in (DEVICE, 'cpu'))
    pixels = [picture(64, 96, 1), picture(50, 40, 2)]
    close('images', mine.images(pixels), reference.images(pixels), 2e-5)
    close('patches', mine.patches(pixels[0]), reference.patches(pixels[0]), 2e-5)
    close('text', mine.text('a bell'), reference.text('a bell'), 1e-5)


def test_tools_test_on_the_default_device(tmp_path):
    """tools/test.py uses CUDA if there is a device."""
    process = run_script(
        ROOT / 'tools/test.py',
        ROOT / 'configs/demo/tagclip_demo.py',
        '--work-dir',
        tmp_path,
        '--cfg-options',
        'test_dataloader.num_workers=0',
        'test_dataloader.persistent_workers=False',
        'test_dataloader.batch_size=2',
        'test_dataloader.dataset.indices=4',
        cwd=ROOT,
    )
    assert process.returncode == 0, process.stderr
    lines = [json.loads(line) for line in (tmp_path / 'tags.jsonl').read_text().splitlines()]
    assert len(lines) == 4
    reference = TagInferencer('tagclip_demo', device='cpu', show_progress=False)
    for line, result in zip(lines, reference([line['image'] for line in lines]), strict=True):
        found = dict(zip(line['tags'], line['scores'], strict=True))
        assert found == pytest.approx(result.tags, abs=1e-4)


def test_a_batch_equals_single_images():
    """The encoder takes a whole batch at once on CUDA, unlike on a CPU."""
    tagger = TagInferencer('tagclip_demo', device=DEVICE, show_progress=False)
    scenes = sorted((ROOT / 'demo/data/JPEGImages').glob('*.jpg'))[:6]
    together, alone = (tagger(scenes, batch_size=size) for size in (6, 1))
    scores = [np.stack([one.scores for one in results]) for results in (together, alone)]
    close('scores', *scores, 5e-5)
