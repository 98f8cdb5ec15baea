"""FitLoop in one process; tests/tools/test_fit.py runs it as a user does."""

import logging
from copy import deepcopy
from functools import reduce
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.runner import load_checkpoint
from mmseg.structures import SegDataSample
from torch.utils.data import DataLoader

from mmtagclip.engine import FitLoop, fit_loop
from mmtagclip.engine.fit_loop import BankFiles
from mmtagclip.jobs.description import Source
from mmtagclip.models.taggers.piaa import PatchBank
from mmtagclip.registry import MODELS
from tests.conftest import picture
from tests.forgetful import Forgetful, restore
from tests.models.taggers.test_piaa import config

IMAGES = 6


@pytest.fixture(scope='module')
def segmentor_config(encoder_config):
    return {
        'type': 'mmtagclip.CLSSeg',
        'tagger': config(encoder_config),
        'affinity': {
            'type': 'mmtagclip.AffinityRefinement',
            'layers': (8, 9),
            'box_threshold': 0.4,
        },
    }


class Images(list):
    """Samples as a data set."""

    metainfo: dict = {}
    pipeline = None

    def get_data_info(self, index):
        return {'img_path': f'{index}.jpg'}


def loader(unreadable=(), batch_size=1):
    def sample(seed):
        meta = {'ori_shape': (64, 80), 'img_path': f'{seed}.jpg'}
        if seed in unreadable:
            meta['load_error'] = 'damaged'
        image = torch.from_numpy(picture(64, 80, seed).copy()).permute(2, 0, 1)
        return {'inputs': image, 'data_samples': SegDataSample(metainfo=meta)}

    return DataLoader(
        Images([sample(seed) for seed in range(IMAGES)]), batch_size, collate_fn=pseudo_collate
    )


def fit(model, data, folder, die_after=None, save_seconds=0.0):
    called = []

    def call_hook(name, **kwargs):
        called.append(name)
        if called.count('after_train_iter') == die_after:
            raise KeyboardInterrupt

    cfg = Config({'train_dataloader': {'dataset': {'type': 'any'}}})
    runner = SimpleNamespace(
        model=model,
        work_dir=str(folder),
        logger=logging.getLogger('fit'),
        call_hook=call_hook,
        cfg=cfg,
    )
    FitLoop(runner, data, save_seconds=save_seconds).run()
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
    (one,) = segmentor.test_step(data)
    (two,) = other.test_step(next(iter(loader())))
    assert one.tags
    assert torch.equal(one.pred_sem_seg.data, two.pred_sem_seg.data)


def test_images_that_can_not_be_read_are_left_out(segmentor_config, tmp_path, caplog):
    whole, part = MODELS.build(segmentor_config), MODELS.build(segmentor_config)
    fit(whole, loader(), tmp_path)
    assert 'could not be read' not in caplog.text
    fit(part, loader(unreadable=(2,)), tmp_path)
    assert '1 of 6 images could not be read and are ignored' in caplog.text
    assert not torch.equal(whole.tagger.head.scorer.weight, part.tagger.head.scorer.weight)
    with pytest.raises(ValueError, match='4 readable images are too few to fit 5 classes'):
        fit(MODELS.build(segmentor_config), loader(unreadable=(1, 4)), tmp_path)


def fitted(model):
    scorer = model.tagger.head.scorer
    return torch.cat([scorer.weight, scorer.bias[None]])


@pytest.mark.parametrize('batch_size', [1, 4])
def test_an_interrupted_fit_goes_on(segmentor_config, tmp_path, batch_size):
    whole, part, again = (MODELS.build(segmentor_config) for _ in range(3))
    batches = fit(whole, loader(batch_size=batch_size), tmp_path).count('after_train_iter')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['piaa.pth']
    (tmp_path / 'piaa.pth').unlink()
    with pytest.raises(KeyboardInterrupt):
        fit(part, loader(batch_size=batch_size), tmp_path, die_after=batches // 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['piaa.bank0.safetensors']
    called = fit(again, loader(batch_size=batch_size), tmp_path)
    assert called.count('after_train_iter') == batches - batches // 2
    assert torch.equal(fitted(again), fitted(whole))
    assert sorted(path.name for path in tmp_path.iterdir()) == ['piaa.pth']


def test_nothing_is_saved_before_it_is_time(segmentor_config, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(MODELS.build(segmentor_config), loader(), tmp_path, die_after=3, save_seconds=1000)
    assert not list(tmp_path.iterdir())


def test_what_could_not_be_read_is_tried_again_and_a_failed_fit_keeps_its_bank(
    segmentor_config, tmp_path
):
    whole, part = MODELS.build(segmentor_config), MODELS.build(segmentor_config)
    fit(whole, loader(), tmp_path)
    with pytest.raises(ValueError, match='4 readable images'):
        fit(part, loader(unreadable=(4, 5)), tmp_path)
    assert fit(part, loader(), tmp_path).count('after_train_iter') == 2
    assert torch.equal(fitted(part), fitted(whole))


def sources(count, time=1):
    return [Source(f'{index}.jpg', [1, time]) for index in range(count)]


def bank_of(*seeds):
    bank = PatchBank(torch.eye(3, 8), 5, 60.0)
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        bank.add(torch.nn.functional.normalize(torch.randn(20, 8, generator=generator), dim=-1))
    return bank


def test_the_banks_of_several_processes_are_taken_up_once(tmp_path, monkeypatch):
    """Also where the end came between saving them as one and deleting the parts."""
    files = BankFiles(tmp_path / 'a.pth', {'fit': 1}, sources(3))
    whole = bank_of(0, 1, 2)
    for rank, seeds in enumerate([(0, 2), (1,), ()]):
        monkeypatch.setattr('mmtagclip.engine.fit_loop.get_rank', lambda rank=rank: rank)
        files.save(bank_of(*seeds), set(seeds))
    monkeypatch.undo()
    part = (tmp_path / 'a.bank1.safetensors').read_bytes()
    (tmp_path / 'a.bank2 of mine.txt').write_bytes(b'not ours')
    for _ in range(2):
        bank = bank_of()
        assert files.take_up(bank) == {0, 1, 2}
        assert torch.equal(bank.features, whole.features)
        assert torch.equal(bank.entropies, whole.entropies)
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            'a.bank0.safetensors',
            'a.bank2 of mine.txt',
        ]
        (tmp_path / 'a.bank1.safetensors').write_bytes(part)


@pytest.mark.parametrize(
    ('change', 'named'),
    [
        ({'classes': ['dog', 'cat', 'bus', 'tree', 'cow']}, 'classes was'),
        ({'templates': ['{}']}, 'bank.text was'),
        ({'encoder.dtype': 'bfloat16'}, 'encoder.clip was'),
        ({'encoder.positions': 'bicubic'}, "encoder.positions was 'bilinear', now it is 'bicubic'"),
        ({'head.scorer.bank_size': 3}, 'bank.features was'),
        ({'head.scorer.bank_temperature': 61.0}, 'bank.temperature was'),
    ],
)
def test_the_bank_of_another_fit_is_refused(segmentor_config, tmp_path, change, named):
    with pytest.raises(KeyboardInterrupt):
        fit(MODELS.build(segmentor_config), loader(), tmp_path, die_after=2)
    other = deepcopy(segmentor_config)
    for path, value in change.items():
        *parents, last = path.split('.')
        reduce(dict.__getitem__, parents, other['tagger'])[last] = value
    with pytest.raises(
        ValueError,
        match=rf'piaa\.bank0\.safetensors was left by another fit: .*{named}.*'
        r'Resume with that config, or delete the file',
    ):
        fit(MODELS.build(other), loader(), tmp_path)
    (tmp_path / 'piaa.bank0.safetensors').write_bytes(b'no bank')
    with pytest.raises(ValueError, match=r'piaa\.bank0\.safetensors is damaged, delete it: '):
        fit(MODELS.build(segmentor_config), loader(), tmp_path)


@pytest.mark.parametrize('named', ['preprocessor.to_rgb', 'data.metainfo', 'version'])
def test_the_bank_of_other_images_or_another_version_is_refused(
    segmentor_config, tmp_path, monkeypatch, named
):
    model, data = MODELS.build(segmentor_config), loader()
    with pytest.raises(KeyboardInterrupt):
        fit(model, data, tmp_path, die_after=1)
    if named == 'version':
        monkeypatch.setattr('mmtagclip.engine.fit_loop.__version__', '0')
    elif named == 'data.metainfo':
        data.dataset.metainfo = {'classes': ['dog']}
    else:
        model.data_preprocessor.to_rgb = not model.data_preprocessor.to_rgb
    with pytest.raises(ValueError, match=rf'was left by another fit: {named}.* was '):
        fit(model, data, tmp_path)


@pytest.mark.parametrize('round_up', [False, True])
def test_a_sampler_repeats_images_only_in_several_processes(
    segmentor_config, tmp_path, monkeypatch, round_up
):
    model, data = MODELS.build(segmentor_config), loader()
    data.sampler.round_up = round_up
    fit(model, data, tmp_path)
    monkeypatch.setattr('mmtagclip.engine.fit_loop.get_world_size', lambda: 2)
    runner = SimpleNamespace(model=model, work_dir=str(tmp_path), cfg=Config({}))
    if not round_up:
        FitLoop(runner, data)
        return
    with pytest.raises(ValueError, match=r'set round_up=False in train_dataloader\.sampler'):
        FitLoop(runner, data)


def test_classes_without_a_patch_are_named(segmentor_config, tmp_path, caplog):
    segmentor = MODELS.build(segmentor_config)
    with caplog.at_level(logging.WARNING, logger='fit'):
        fit(segmentor, loader(), tmp_path)
    assert 'Classes that won no patch, so their text features are their means: cat' in caplog.text


@pytest.mark.parametrize(
    ('now', 'message'),
    [
        (sources(2), '1 that it has seen, such as 2.jpg, are no longer there'),
        (sources(3, time=2), '3 that it has seen, such as 0.jpg, are no longer there'),
    ],
)
def test_a_bank_that_saw_other_images_is_refused(tmp_path, now, message):
    BankFiles(tmp_path / 'a.pth', {'fit': 1}, sources(3)).save(bank_of(0, 1, 2), {0, 1, 2})
    with pytest.raises(ValueError, match=message):
        BankFiles(tmp_path / 'a.pth', {'fit': 1}, now).take_up(bank_of())


def test_images_may_be_added_and_moved(tmp_path):
    BankFiles(tmp_path / 'a.pth', {'fit': 1}, sources(3)).save(bank_of(0, 2), {0, 2})
    now = [Source('new.jpg', None), *sources(5)]
    assert BankFiles(tmp_path / 'a.pth', {'fit': 1}, now).take_up(bank_of()) == {1, 3}


def test_a_bank_with_a_flipped_bit_is_refused(tmp_path):
    files = BankFiles(tmp_path / 'a.pth', {'fit': 1}, sources(3))
    files.save(bank_of(0, 2), {0, 2})
    path = tmp_path / 'a.bank0.safetensors'
    whole = path.read_bytes()
    for place in range(len(whole) - 1, 8, -101):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(ValueError, match=r'is damaged, delete it|was left by another fit'):
            files.take_up(bank_of())


def test_a_bank_survives_a_power_failure(tmp_path, monkeypatch):
    files = BankFiles(tmp_path / 'a.pth', {'fit': 1}, sources(3))
    with monkeypatch.context() as patch:
        disk = Forgetful(tmp_path, patch)
        files.save(bank_of(0), {0})
        first = len(disk.failures)
        files.save(bank_of(0, 1), {0, 1})
    for number, failure in enumerate(disk.failures[first - 1 :]):
        for kind, left in enumerate(failure):
            (folder := tmp_path / f'{number}-{kind}').mkdir()
            seen = BankFiles(restore(left, folder) / 'a.pth', {'fit': 1}, sources(3)).take_up(
                bank_of()
            )
            assert seen in ({0}, {0, 1})
    assert seen == {0, 1}


def test_banks_of_two_processes_are_one(segmentor_config, tmp_path, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    text, *patches = (
        torch.nn.functional.normalize(torch.randn(count, 8, generator=generator), dim=-1)
        for count in (3, 40, 50)
    )
    whole, *parts = (PatchBank(text, 6, 60.0) for _ in range(3))
    for bank, content in zip(parts, patches, strict=True):
        bank.add(content)
        whole.add(content)
    kept = {id(one): [one.clone()] for one in (parts[0].features, parts[0].entropies)}
    for key, other in zip(kept, (parts[1].features, parts[1].entropies), strict=True):
        kept[key].append(other)
    monkeypatch.setattr(fit_loop, 'get_world_size', lambda: 2)
    monkeypatch.setattr(fit_loop, 'all_gather', lambda one: kept[id(one)])
    FitLoop._gather(None, parts[0])
    assert torch.equal(parts[0].features, whole.features)
    assert torch.equal(parts[0].entropies, whole.entropies)


def test_a_fit_is_one_epoch_without_dropout(segmentor_config, tmp_path):
    segmentor = MODELS.build(segmentor_config).train()
    runner = SimpleNamespace(model=segmentor, work_dir=str(tmp_path))
    loop = FitLoop(runner, loader())
    assert (loop.epoch, loop.max_epochs, loop.iter, loop.max_iters) == (0, 1, 0, IMAGES)
    fit(segmentor, loader(), tmp_path)
    assert not segmentor.training
