"""Training of the pooling: the released steps, objectness from masks, and what is refused."""

import json

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmtagclip.clip import LearntPooling
from mmtagclip.labels import IGNORED
from mmtagclip.models import CLIPEncoder, PoolingTrainer
from mmtagclip.regions import Affinity, AffinitySource
from mmtagclip.registry import DATASETS
from tests.golden import seeds
from tests.processes import ROOT, run_script

GOLDEN = seeds.arrays('clip_dinoiser')


class Colours(AffinitySource):
    """Teaches that patches of one colour are alike, on a grid of half as many cells."""

    def forward(self, pixels):
        return Affinity(torch.nn.functional.avg_pool2d(pixels, 16) - 0.5)


class Nothing(AffinitySource):
    def forward(self, pixels):
        return Affinity(regions=pixels[:, 0].long())


@pytest.fixture(scope='module')
def encoder():
    return seeds.encoder(quick_gelu=False, positions='bicubic')


@pytest.fixture
def trainer(encoder):
    """Makes a trainer whose pooling has the released arrays' first weights."""

    def make(teacher=None, objectness=True, **options):
        encoder.pooling = LearntPooling(channels=10, objectness=objectness)
        encoder.pooling.attach(encoder)
        state = {
            key: GOLDEN[key.replace('.', '_')]
            for key in encoder.pooling.state_dict()
            if key != 'identity'
        }
        encoder.pooling.load_state_dict(state, strict=False)
        return PoolingTrainer(encoder, teacher, **options)

    return make


def sample(mask):
    return SegDataSample(
        gt_sem_seg=PixelData(data=mask[None].long()), metainfo={'img_path': 'a.jpg'}
    )


def test_released_steps(trainer, monkeypatch):
    model = trainer()
    mean, std = model.data_preprocessor.mean, model.data_preprocessor.std
    optimizer = torch.optim.AdamW(
        [
            {'params': model.pooling.obj_proj.parameters(), 'lr': 5e-5},
            {'params': model.pooling.bkg_decoder.parameters(), 'lr': 0.01},
        ]
    )
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2], 0.1)
    for step in range(3):
        taught = GOLDEN['train_teacher'][step].flatten(2)
        monkeypatch.setattr(model, 'similarity', lambda images, grid, taught=taught: taught)
        found = (GOLDEN['train_found'][step] > 0.5).float()
        masks = torch.nn.functional.interpolate(found, scale_factor=8)[:, 0]
        images = list((GOLDEN['train_images'][step] - mean) / std)
        losses = model(images, [sample(mask) for mask in masks])
        loss = losses['loss_alike'] + losses['loss_objectness']
        assert abs(loss.item() - GOLDEN['train_losses'][step]) < 1e-6
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    for name, value in model.pooling.named_parameters():
        theirs = GOLDEN[f'trained_{name.replace(".", "_")}']
        torch.testing.assert_close(value.detach(), theirs, atol=1e-6, rtol=0)


def test_only_the_pooling_is_trained_and_saved(trainer):
    model = trainer(Colours())
    assert set(model.state_dict()) == {f'pooling.{key}' for key in model.pooling.state_dict()}
    assert {name for name, _ in model.named_parameters()} == {
        f'pooling.{part}.{kind}'
        for part in ('obj_proj', 'bkg_decoder')
        for kind in ('weight', 'bias')
    }
    model.to(torch.float64)
    assert next(model.encoder.clip.parameters()).dtype == torch.float64
    model.to(torch.float32)


def test_similarity_of_the_teacher_and_of_the_own_patches(trainer, encoder):
    images = torch.rand(2, 3, 32, 48)
    own = trainer().similarity(images, (4, 6))
    encoder.pooling = None
    patches, _ = encoder.raw_patches(images)
    unit = torch.nn.functional.normalize(patches - patches.mean(dim=1, keepdim=True), dim=-1)
    torch.testing.assert_close(own, unit @ unit.transpose(1, 2))
    model = trainer(Colours())
    cosines = model.similarity(model.encoder.pixels(images), (4, 6))
    assert cosines.shape == (2, 24, 24)
    torch.testing.assert_close(cosines.diagonal(dim1=1, dim2=2), torch.ones(2, 24))
    with pytest.raises(ValueError, match='Nothing has no features to teach with'):
        trainer(Nothing()).similarity(images, (4, 6))


def test_released_similarity_of_dino(trainer):
    class Values(AffinitySource):
        def forward(self, pixels):
            values = GOLDEN['dino_qkv'][:, 1:].chunk(3, dim=-1)[2]
            return Affinity(values.transpose(1, 2).unflatten(2, (5, 4)))

    model = trainer(Values())
    cosines = model.similarity(torch.zeros(2, 3, 40, 32), (5, 4))
    kept = torch.where(cosines >= model.gamma, cosines, 0)
    theirs = GOLDEN['dino_correlations'].flatten(2)
    torch.testing.assert_close(kept, theirs, atol=2e-5, rtol=0)


def test_objectness_of_masks(trainer):
    """Of the known pixels of a patch more than half have to show an object."""
    mask = torch.zeros(8, 32)
    mask[:4, :8] = 3  # half
    mask[:5, 8:16] = 3
    mask[:, 16:24] = IGNORED
    mask[:3, 24:] = 3
    mask[3:, 24:] = IGNORED
    logits = torch.tensor([[0.3, 0.5, 9.0, -0.7]])
    loss = trainer()._objectness_loss(logits, [sample(mask)], (1, 4))
    targets, known = torch.tensor([0.0, 1.0, 1.0]), logits[0, [0, 1, 3]]
    expected = torch.nn.functional.binary_cross_entropy_with_logits(known, targets)
    torch.testing.assert_close(loss, expected)
    unknown = sample(torch.full((8, 32), IGNORED))
    assert trainer()._objectness_loss(logits, [unknown], (1, 4)) == 0


def test_what_it_can_not_train(trainer, encoder):
    images = list(torch.rand(2, 3, 32, 48))
    with pytest.raises(ValueError, match=r'but a\.jpg has none: use a data set with masks'):
        trainer()(images, [SegDataSample(metainfo={'img_path': 'a.jpg'})] * 2)
    with pytest.raises(ValueError, match=r'need one size, not \[\(32, 32\), \(32, 48\)\]'):
        trainer()([images[0], images[1][:, :, :32]])
    assert set(trainer(objectness=False)(images)) == {'loss_alike'}
    with pytest.raises(ValueError, match='only trains'):
        trainer()(images, mode='predict')
    encoder.pooling = None
    with pytest.raises(ValueError, match=r'set encoder\.pooling'):
        PoolingTrainer(encoder)


CONFIG = """
_base_ = '{root}/configs/pooling/pooling_demo.py'
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(shuffle=False),
    dataset=dict(
        data_prefix='{root}/demo/data/JPEGImages',
        indices=4,
        pipeline=[
            dict(type='mmtagclip.LoadImage'),
            dict(type='Resize', scale=(96, 64)),
            dict(type='PackSegInputs'),
        ],
    ),
)
param_scheduler = [dict(type='MultiStepLR', milestones=[4], gamma=0.1, by_epoch=False)]
train_cfg = dict(max_iters=6)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=3))
"""


def test_the_loss_falls_and_a_resumed_run_is_the_uninterrupted_one(tmp_path):
    config = tmp_path / 'pooling.py'
    config.write_text(CONFIG.format(root=ROOT))
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    process = run_script(ROOT / 'tools/train.py', config, '--work-dir', whole)
    assert process.returncode == 0, process.stderr
    (log,) = whole.glob('*/vis_data/scalars.json')
    losses = [json.loads(line)['loss'] for line in log.read_text().splitlines()]
    assert len(losses) == 6
    assert losses == sorted(losses, reverse=True)
    parts.mkdir()
    (whole / 'iter_3.pth').rename(parts / 'iter_3.pth')
    (parts / 'last_checkpoint').write_text(str(parts / 'iter_3.pth'))
    process = run_script(ROOT / 'tools/train.py', config, '--work-dir', parts, '--resume')
    assert process.returncode == 0, process.stderr
    assert 'iter: 3' in process.stdout + process.stderr
    demo = {'model': f'local-dir:{ROOT}/demo/model', 'text_cache': False}
    one, other = (
        CLIPEncoder(**demo, pooling=LearntPooling(folder / 'iter_6.pth')).pooling
        for folder in (whole, parts)
    )
    assert one.digest == other.digest
    assert one.channels == 256


@pytest.mark.parametrize('masks', [False, True])
def test_samples_of_the_configs_for_a_folder(masks):
    name = f'pooling{"-objects" * masks}_vit-base-p16_laion2b_folder'
    train = Config.fromfile(ROOT / f'configs/pooling/{name}.py').train_dataloader.dataset
    data = ROOT / 'demo/data'
    prefix = str(data / 'JPEGImages')
    if masks:
        folders = {'img_path': prefix, 'seg_map_path': str(data / 'SegmentationClass')}
        train = {**train.dataset, 'data_prefix': folders, 'classes': str(data / 'classes.txt')}
    else:
        train = {**train, 'data_prefix': prefix}
    with DefaultScope.overwrite_default_scope('mmseg'):
        one = DATASETS.build(train)[3]
    assert one['inputs'].shape == (3, 448, 448)
    assert ('gt_sem_seg' in one['data_samples']) == masks
    if masks:
        assert one['data_samples'].gt_sem_seg.data.shape == (1, 448, 448)
        assert len(one['data_samples'].gt_sem_seg.data.unique()) > 1
