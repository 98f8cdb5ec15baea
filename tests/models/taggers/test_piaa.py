"""PIAA: the arrays of the published program, plain twins, checkpoints, and what is refused."""

import json
import re
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.runner import load_checkpoint, save_checkpoint
from torch.utils._python_dispatch import TorchDispatchMode

from mmtagclip.models import GaussianClassifier, PIAAHead
from mmtagclip.models.taggers.piaa import PatchBank, gaussian_fit
from mmtagclip.registry import MODELS
from tests import twins
from tests.conftest import TINY
from tests.golden import GOLDEN as GOLDEN_DIR
from tests.models.taggers.test_tagger import NAMES, batch

GOLDEN = {
    key.removeprefix('piaa/'): torch.from_numpy(value)
    for key, value in np.load(GOLDEN_DIR / 'encoders.npz').items()
    if key.startswith('piaa/')
}
PUBLISHED = {'bank_size': 110, 'keep_emptied': False}


def unit(x):
    return torch.nn.functional.normalize(x, dim=-1)


def golden_bank(size=110, chunk=90):
    """The bank of the golden training patches, streamed in chunks."""
    bank = PatchBank(GOLDEN['text'], size, 60.0)
    for patches in unit(GOLDEN['train']).flatten(0, 1).split(chunk):
        bank.add(patches)
    return bank


def by_first_number(rows):
    return rows[rows[:, 0].argsort()]


@pytest.mark.parametrize('chunk', [1, 90, 1260])
def test_bank_is_the_published_one_however_it_is_filled(chunk):
    features, labels, probabilities = golden_bank(chunk=chunk).content()
    for label in range(6):
        theirs = GOLDEN['stage1/bank_class'] == label
        assert (labels == label).sum() == theirs.sum() == GOLDEN['stage1/sizes'][label]
        golden = torch.cat([GOLDEN['stage1/bank'], GOLDEN['stage1/bank_prob'][:, [label]]], dim=1)
        got = torch.cat([features, probabilities[:, None]], dim=1)
        torch.testing.assert_close(
            by_first_number(got[labels == label]),
            by_first_number(golden[theirs]),
            atol=1e-5,
            rtol=0,
        )


def test_merged_banks_are_one_bank():
    whole, parts = golden_bank(), [PatchBank(GOLDEN['text'], 110, 60.0) for _ in range(3)]
    for number, patches in enumerate(unit(GOLDEN['train'])):
        parts[number % 3].add(patches)
    merged = PatchBank(GOLDEN['text'], 110, 60.0)
    for part in parts:
        merged.merge(part.features, part.entropies)
    for one, other in zip(whole.content(), merged.content(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def test_first_fit_is_the_published_one():
    weight, bias = gaussian_fit(*golden_bank().content(), GOLDEN['text'])
    torch.testing.assert_close(weight, GOLDEN['stage1/W'], atol=1e-4, rtol=0)
    torch.testing.assert_close(bias, GOLDEN['stage1/b'], atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    'key, temperatures', [('t100', (80, 200)), ('t500', (10, 400)), ('t0.01', (80, 400))]
)
def test_second_fit_and_scores_are_the_published_ones(key, temperatures, monkeypatch):
    classifier = GaussianClassifier(clean_temperature=float(key[1:]), **PUBLISHED)
    fitted = []
    monkeypatch.setattr(
        'mmtagclip.models.taggers.piaa.gaussian_fit',
        lambda *args: fitted.append(args[1]) or gaussian_fit(*args),
    )
    classifier.fit(golden_bank())
    assert fitted[1].bincount(minlength=6).tolist() == GOLDEN[f'{key}/stage2/sizes'].tolist()
    torch.testing.assert_close(classifier.weight, GOLDEN[f'{key}/stage2/W'], atol=1e-4, rtol=0)
    torch.testing.assert_close(classifier.bias, GOLDEN[f'{key}/stage2/b'], atol=1e-4, rtol=0)
    scores = PIAAHead(classifier, *temperatures).scores(
        classifier(unit(GOLDEN['test'])), unit(GOLDEN['cls']), GOLDEN['text']
    )
    torch.testing.assert_close(scores, GOLDEN[f'{key}/scores'], atol=1e-5, rtol=0)


@pytest.mark.parametrize('seed', range(6))
@pytest.mark.parametrize('keep_emptied', [True, False])
def test_agrees_with_the_plain_twin(seed, keep_emptied, monkeypatch):
    monkeypatch.setattr('mmtagclip.models.taggers.piaa.ROWS', 5)
    generator = torch.Generator().manual_seed(seed)
    classes, dim, count = torch.randint(2, 7, (3,), generator=generator).tolist()
    text = unit(torch.randn(classes, 2 * dim, generator=generator))
    patches = unit(torch.randn(40 * count, 2 * dim, generator=generator) + text.mean(0))
    temperature = [0.01, 1.0, 100.0][seed % 3]
    classifier = GaussianClassifier(7, clean_temperature=temperature, keep_emptied=keep_emptied)
    bank = classifier.bank(text)
    for some in patches.split(13):
        bank.add(some)
    plain = twins.piaa(patches, text, 7, temperature, keep_emptied)
    if plain is None:
        with pytest.raises(ValueError, match=r'keep_emptied=True|means of their classes'):
            classifier.fit(bank)
        return
    classifier.fit(bank)
    torch.testing.assert_close(classifier.weight, plain[0], atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(classifier.bias, plain[1], atol=2e-4, rtol=1e-4)


def test_no_class_is_emptied_silently():
    """Published, classes d and e lose all patches at this temperature; f never had one."""
    unseen = 'won no patch, so their text features are their means: f'
    classifier = GaussianClassifier(bank_size=110, clean_temperature=100)
    published = GaussianClassifier(clean_temperature=100, **PUBLISHED)
    for part in (classifier, published):
        part.belongs_to = {'classes': list('abcdef')}
    assert classifier.fit(golden_bank()) == [unseen]
    assert published.fit(golden_bank()) == [
        unseen,
        'lost all patches when the bank was cleaned (their text features are their means): d, e',
    ]
    difference = (classifier.weight - published.weight).abs().amax(0)
    assert (difference > 0.01).all()  # all, by the common covariance


@pytest.mark.parametrize(
    'keep_emptied, note',
    [(True, r'they keep those of the bank\): 0'), (False, r'features are their means\): 0')],
)
def test_a_class_whose_patches_all_go_to_others(keep_emptied, note):
    """Those of class 0 lie in the midst of classes 1 and 2."""
    axes = torch.eye(8)
    generator = torch.Generator().manual_seed(0)
    features = 0.05 * torch.randn(3, 6, 8, generator=generator)
    features += torch.stack([axes[[0, 1] * 3], axes[[0] * 6], axes[[1] * 6]])
    bank = PatchBank(axes[:3], 6, 1e-6)  # all probabilities alike
    bank.merge(unit(features), torch.ones(3, 6))
    classifier = GaussianClassifier(6, keep_emptied=keep_emptied)
    (lost,) = classifier.fit(bank)
    assert re.search(note, lost)
    assert torch.isfinite(classifier.weight).all()


def test_memory_of_a_bank_is_bounded():
    bank = golden_bank(size=5)
    before = {key: value.shape for key, value in vars(bank).items() if hasattr(value, 'shape')}
    for seed in range(20):
        bank.add(unit(torch.randn(500, 16, generator=torch.Generator().manual_seed(seed))))
    after = {key: value.shape for key, value in vars(bank).items() if hasattr(value, 'shape')}
    assert before == after
    assert len(bank.content()[0]) == 6 * 5


def test_nothing_is_quadratic_in_the_classes(monkeypatch):
    """A bank of C classes never holds C probabilities of each of its patches."""
    classes, size, dim = 150, 10, 16
    monkeypatch.setattr('mmtagclip.models.taggers.piaa.ROWS', 20)
    text = unit(torch.randn(classes, dim, generator=torch.Generator().manual_seed(0)))
    largest = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **kwargs or {})
            largest.extend(
                one.numel()
                for one in (out if isinstance(out, tuple | list) else [out])
                if isinstance(one, torch.Tensor)
            )
            return out

    bank, classifier = PatchBank(text, size, 60.0), GaussianClassifier(size)
    patches = unit(
        text.repeat(size, 1)
        + 0.05 * torch.randn(size * classes, dim, generator=torch.Generator().manual_seed(1))
    )
    with Watch():
        for some in patches.split(20):
            bank.add(some)
        classifier.fit(bank)
    assert len(bank.content()[0]) > 1000
    assert max(largest) == classes * size * dim


# In a tagger


def config(encoder_config, head=None, **encoder):
    head = head or {
        'type': 'mmtagclip.PIAAHead',
        'scorer': {'type': 'mmtagclip.GaussianClassifier', 'bank_size': 20},
    }
    return {
        'type': 'mmtagclip.TagCLIP',
        'encoder': {**encoder_config, **encoder},
        'head': head,
        'classes': NAMES,
        'templates': ['a photo of a {}'],
    }


def fit(tagger, *sizes):
    bank = tagger.head.scorer.bank(tagger.text)
    for sample in batch(*sizes)['inputs']:
        images = tagger.data_preprocessor({'inputs': [sample]})['inputs'][0][None]
        bank.add(tagger.encoder(images).patches[0])
    tagger.head.scorer.fit(bank)
    return tagger


SIZES = [(96, 80, seed) for seed in range(6)]


@pytest.fixture(scope='module')
def fitted(encoder_config):
    return fit(MODELS.build(config(encoder_config)), *SIZES)


@pytest.fixture(scope='module')
def saved(fitted, tmp_path_factory):
    """A checkpoint of the classifier alone."""
    path = tmp_path_factory.mktemp('piaa') / 'piaa.pth'
    state = {f'head.scorer.{key}': value for key, value in fitted.head.scorer.state_dict().items()}
    save_checkpoint({'state_dict': state, 'meta': {}}, str(path))
    return str(path)


def test_scores_are_the_formula_s(fitted):
    sizes = [(96, 80, 7), (64, 96, 8), (96, 80, 9)]
    for sample, size in zip(fitted.test_step(batch(*sizes)), sizes, strict=True):
        alone = batch(size)
        images = fitted.data_preprocessor(alone)['inputs'][0][None]
        features = fitted.encoder(images)
        g = features.patches[0] @ fitted.head.scorer.weight + fitted.head.scorer.bias
        m = (g / 500).softmax(-1).amax(0)
        whole = (80 * twins.class_token(fitted.encoder.visual, images) @ fitted.text.T).softmax(-1)
        torch.testing.assert_close(
            sample.pred_score, 0.1 * whole + 0.9 * (200 * m).softmax(-1), atol=2e-5, rtol=0
        )
        assert sample.tags


def test_a_checkpoint_holds_the_classifier_alone_and_is_read_safely(saved, fitted, encoder_config):
    content = torch.load(saved, weights_only=True)
    assert set(content['state_dict']) == {
        f'head.scorer.{key}' for key in ('weight', 'bias', 'identity')
    }
    other = MODELS.build(config(encoder_config))
    with pytest.raises(ValueError, match=r'not fitted: fit it with tools/train\.py'):
        other.test_step(batch((64, 96, 8)))
    load_checkpoint(other, saved, strict=True)
    (one,) = fitted.test_step(batch((64, 96, 8)))
    (same,) = other.test_step(batch((64, 96, 8)))
    assert torch.equal(one.pred_score, same.pred_score)
    other.load_state_dict(content['state_dict'])  # torch's own way


def test_a_checkpoint_serves_another_dtype(saved, fitted, encoder_config):
    narrow = MODELS.build(config(encoder_config, dtype='bfloat16'))
    load_checkpoint(narrow, saved, strict=True)
    (sample,) = narrow.test_step(batch((64, 96, 8)))
    (exact,) = fitted.test_step(batch((64, 96, 8)))
    assert (sample.pred_score - exact.pred_score).abs().max() < 0.2


@pytest.mark.parametrize('policy', ['SCLIP', 'SCCLIP', 'NACLIP', 'ITACLIP', 'ClearCLIP'])
def test_every_encoder_and_the_refinements_on_top(encoder_config, policy):
    head = {
        'type': 'mmtagclip.TagCLIPHead',
        'scorer': {'type': 'mmtagclip.GaussianClassifier', 'bank_size': 20},
        'dmar': {'type': 'mmtagclip.DMAR', 'layers': (8, 9, 10)},
        'cwr': {'type': 'mmtagclip.CWR', 'threshold': 0.1},
    }
    tagger = fit(
        MODELS.build(
            config(
                encoder_config,
                head,
                positions='bicubic_scale',
                last_block={'type': f'mmtagclip.{policy}LastBlock'},
            )
        ),
        *SIZES,
    )
    tagger.with_score_maps = True
    (sample,) = tagger.test_step(batch((96, 80, 7)))
    images = tagger.data_preprocessor(batch((96, 80, 7)))['inputs'][0][None]
    features = tagger.encoder(images, [(8, 9, 10)], votes=True)
    coarse = tagger.head.scorer(features.patches)
    refined = tagger.head.dmar(coarse, features.attention, features.grid)
    torch.testing.assert_close(sample.score_maps.flatten(1).T, refined[0])
    assert torch.isfinite(sample.pred_score).all()


@pytest.mark.parametrize(
    'change, message',
    [
        (
            {'classes': [*NAMES[:-1], 'cow']},
            r"other class names: it has 'traffic light' \(5 names\), "
            r"the model has 'cow' \(5 names\)",
        ),
        (
            {'classes': NAMES[::-1]},
            r'the same 5 class names in another order: as number 0 it has '
            r"'dog', the model has 'traffic light'\. Fit it again with tools/train\.py, or use the "
            'config that it was fitted with',
        ),
        (
            {'classes': [['kitten' if name == 'cat' else name, 'x'] for name in NAMES]},
            r"other class names: it has 'cat' \(5 names\), "
            r"the model has 'kitten' \(5 names\)\. Fit it",
        ),
        (
            {'classes': [[name, 'pet'] if name == 'dog' else name for name in NAMES]},
            r"other synonyms: it has 'dog', the model has \['dog', 'pet'\]\. Fit it",
        ),
        ({'classes': [*NAMES, 'cow']}, r"it has 5 names, the model has 'cow' \(6 names\)"),
        (
            {'last_block': {'type': 'mmtagclip.SCLIPLastBlock'}},
            r'another encoder: it is for .*tiny.safetensors\) with SelfOnlyLastBlock\(.*'
            r'the model has .*with SCLIPLastBlock\(.*'
            r'Fit it again with tools/train\.py, or use the config',
        ),
        ({'positions': 'bicubic'}, 'another encoder: .*bilinear positions.*bicubic positions'),
    ],
)
def test_a_checkpoint_of_others_is_refused(saved, encoder_config, change, message):
    cfg = config(encoder_config)
    (cfg if 'classes' in change else cfg['encoder']).update(deepcopy(change))
    with pytest.raises(ValueError, match=message):
        load_checkpoint(MODELS.build(cfg), saved)


def test_the_encoder_s_name_decides_nothing(saved, fitted, encoder_config, tmp_path):
    """The same weights elsewhere, by torch, by mmengine, and by the classifier itself."""
    elsewhere = tmp_path / 'in a folder whose name is longer.safetensors'
    elsewhere.write_bytes(Path(encoder_config['checkpoint']).read_bytes())
    (expected,) = fitted.test_step(batch((64, 96, 8)))
    for load in (
        lambda model: model.load_state_dict(torch.load(saved)['state_dict']),
        lambda model: load_checkpoint(model, saved, strict=True),
        lambda model: model.head.scorer.load(saved),
    ):
        other = MODELS.build(config(encoder_config, checkpoint=str(elsewhere)))
        load(other)
        (sample,) = other.test_step(batch((64, 96, 8)))
        assert torch.equal(sample.pred_score, expected.pred_score)
        assert other.head.scorer.state_dict()['identity'].equal(other.head.scorer.identity)


def test_names_of_a_call(saved, encoder_config):
    tagger = MODELS.build(config(encoder_config))
    tagger.head.scorer.load(saved)
    assert tagger.names_for(classes=NAMES).vocabulary.names == tuple(NAMES)
    for kwargs, message in [
        (
            {'classes': ['dog', 'cow']},
            r"it has 'cat', .* \(5 names\), asked for are 'cow' "
            r'\(2 names\); fit one for these',
        ),
        (
            {'classes': NAMES[::-1]},
            "in another order: as number 0 it has 'dog', asked for are "
            "'traffic light'; fit one for these",
        ),
        ({'background': ['sky']}, r"it has 5 names, asked for are 'sky' \(6 names\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            tagger.names_for(**kwargs)


def test_files_that_hold_no_classifier(encoder_config, checkpoint, tmp_path):
    scorer = MODELS.build(config(encoder_config)).head.scorer
    for content in ({'fc.weight': torch.ones(2, 2), 'fc.bias': torch.ones(2)}, {'a': 'b'}):
        torch.save({'state_dict': content}, tmp_path / 'other.pth')
        with pytest.raises(ValueError, match=r'other\.pth (holds|contains) no '):
            scorer.load(tmp_path / 'other.pth')
    with pytest.raises(ValueError, match=r'tiny\.safetensors holds no classifier'):
        scorer.load(checkpoint)
    with pytest.raises(FileNotFoundError, match=r'no checkpoint at .*none\.pth'):
        scorer.load(tmp_path / 'none.pth')
    assert not scorer.fitted


def test_other_weights_are_another_encoder(saved, encoder_config, state_dict, tmp_path):
    from safetensors.torch import save_file

    weights = {**state_dict, 'visual.proj': state_dict['visual.proj'] * 1.01}
    save_file(weights, tmp_path / 'tiny.safetensors')
    cfg = config(encoder_config, checkpoint=str(tmp_path / 'tiny.safetensors'))
    with pytest.raises(ValueError, match=r'another encoder: .*weights .*weights '):
        load_checkpoint(MODELS.build(cfg), saved)


@pytest.mark.parametrize(
    'change',
    [
        {'quick_gelu': False},
        {'vision_cfg': {**TINY['vision_cfg'], 'head_width': 32}},
        {'text_cfg': {**TINY['text_cfg'], 'pool_type': 'last'}},
    ],
    ids=['activation', 'heads', 'pooling'],
)
def test_the_same_weights_in_another_architecture_are_another_encoder(
    saved, encoder_config, change
):
    model = MODELS.build(config(encoder_config, model={**TINY, **change}))
    with pytest.raises(
        ValueError, match=r'another encoder: .*architecture .*architecture .*Fit it'
    ):
        load_checkpoint(model, saved)


def test_a_checkpoint_without_the_architecture_is_refused(saved, encoder_config):
    content = torch.load(saved, weights_only=True)['state_dict']
    stored = json.loads(bytes(content['head.scorer.identity'].tolist()))
    del stored['encoder']['architecture']
    old = torch.tensor(list(json.dumps(stored).encode()), dtype=torch.uint8)
    with pytest.raises(
        ValueError, match=r'another encoder: .*architecture unknown, .*Fit it again'
    ):
        MODELS.build(config(encoder_config)).load_state_dict(
            {**content, 'head.scorer.identity': old}
        )


def test_bad_arguments_and_empty_banks(saved, encoder_config):
    for key in ('bank_size', 'bank_temperature', 'clean_temperature', 'score_temperature'):
        with pytest.raises(ValueError, match=f'{key} > 0, not 0'):
            GaussianClassifier(**{key: 0})
    with pytest.raises(ValueError, match='fitted to 0 patches'):
        GaussianClassifier().fit(PatchBank(GOLDEN['text'], 5, 60.0))
    content = torch.load(saved, weights_only=True)['state_dict']
    del content['head.scorer.identity']
    with pytest.raises(ValueError, match='does not say for which classes'):
        MODELS.build(config(encoder_config)).load_state_dict(content)
