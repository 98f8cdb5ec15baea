"""tools/train.py as a subprocess: a segmentor on pseudo masks, a classifier on pseudo tags."""
import io
import json
import sys

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from mmtagclip.pseudo_labels import Manifest, PseudoLabelWriter
from tests.conftest import picture
from tests.processes import ROOT, free_port, run

NAMES = ['dog', 'cat']


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Six pictures with pseudo masks and pseudo tags."""
    root = tmp_path_factory.mktemp('data')
    (root / 'images').mkdir()
    masks = PseudoLabelWriter(root / 'masks', Manifest('masks', ('background', *NAMES), 6))
    tags = PseudoLabelWriter(root / 'tags', Manifest('tags', tuple(NAMES), 6))
    for i in range(6):
        Image.fromarray(picture(64, 64, i)).save(root / 'images' / f'{i}.png')
        buffer = io.BytesIO()
        Image.fromarray(np.full((64, 64), i % 3, np.uint8)).save(buffer, format='PNG')
        image = str(root / 'images' / f'{i}.png')
        masks.add(i, {'image': image, 'tags': []}, {'masks.png': buffer.getvalue()})
        tags.add(i, {'image': image, 'tags': NAMES[:i % 3], 'scores': [0.9] * (i % 3)})
    assert masks.finish()
    assert tags.finish()
    return root


def common(batch_size=2):
    return {'train_dataloader': {'batch_size': batch_size, 'num_workers': 0,
                                 'sampler': {'type': 'InfiniteSampler'}},
            'train_cfg': {'type': 'IterBasedTrainLoop', 'max_iters': 2},
            'optim_wrapper': {'type': 'OptimWrapper', 'optimizer': {'type': 'SGD', 'lr': 0.1}},
            'default_hooks': {'logger': {'type': 'LoggerHook', 'interval': 1,
                                         'log_metric_by_epoch': False},
                              'checkpoint': {'type': 'CheckpointHook', 'by_epoch': False,
                                             'interval': 2}},
            'log_processor': {'by_epoch': False}, 'randomness': {'seed': 0}}


@pytest.fixture(scope='module')
def segmentor(data):
    norm = {'type': 'BN'}
    config = common()
    config['train_dataloader']['dataset'] = {
        'type': 'mmtagclip.PseudoLabelDataset', 'labels': str(data / 'masks'), 'dataset': {
            'type': 'mmtagclip.VocabularySegDataset', 'classes': NAMES, 'img_suffix': '.png',
            'data_prefix': {'img_path': str(data / 'images')}, 'pipeline': [
                {'type': 'LoadImageFromFile'}, {'type': 'LoadAnnotations'},
                {'type': 'PackSegInputs'}]}}
    path = data / 'segmentor.py'
    Config({
        **config, 'default_scope': 'mmseg', 'model': {
            'type': 'EncoderDecoder', 'data_preprocessor': {
                'type': 'SegDataPreProcessor', 'size': (64, 64), 'mean': [120.0] * 3,
                'std': [60.0] * 3},
            'backbone': {'type': 'MixVisionTransformer', 'embed_dims': 8, 'num_heads': [1] * 4,
                         'num_layers': [1] * 4},
            'decode_head': {'type': 'SegformerHead', 'in_channels': [8] * 4, 'channels': 16,
                            'in_index': [0, 1, 2, 3], 'num_classes': 3, 'norm_cfg': norm},
            'test_cfg': {'mode': 'whole'}}}).dump(str(path))
    return path


@pytest.fixture(scope='module')
def classifier(data):
    config = common()
    config['train_dataloader'].update(collate_fn={'type': 'default_collate'}, dataset={
        'type': 'mmtagclip.PseudoLabelDataset', 'labels': str(data / 'tags'),
        'drop_untagged': True, 'dataset': {
            'type': 'mmpretrain.CustomDataset', 'data_prefix': str(data / 'images'),
            'with_label': False, 'metainfo': {'classes': NAMES}, 'pipeline': [
                {'type': 'LoadImageFromFile'}, {'type': 'PackInputs'}]}})
    path = data / 'classifier.py'
    Config({
        **config, 'default_scope': 'mmpretrain', 'model': {
            'type': 'ImageClassifier', 'data_preprocessor': {'num_classes': 2,
                                                             'to_onehot': True},
            'backbone': {'type': 'ResNet', 'depth': 18, 'base_channels': 8, 'stem_channels': 8},
            'neck': {'type': 'GlobalAveragePooling'},
            'head': {'type': 'MultiLabelLinearClsHead', 'num_classes': 2,
                     'in_channels': 64}}}).dump(str(path))
    return path


def train(*arguments, program=(sys.executable, ROOT / 'tools/train.py'), **environment):
    process = run(*program, *arguments, OMP_NUM_THREADS='1', **environment)
    assert process.returncode == 0, process.stderr
    return process.stdout + process.stderr


def losses(work_dir):
    path, = work_dir.glob('*/vis_data/scalars.json')
    return [json.loads(line)['loss'] for line in path.read_text().splitlines()]


def test_a_segmentor_learns_from_pseudo_masks_and_resumes(segmentor, tmp_path):
    train(segmentor, '--work-dir', tmp_path)
    assert len(losses(tmp_path)) == 2
    assert np.isfinite(losses(tmp_path)).all()
    assert (tmp_path / 'iter_2.pth').is_file()
    resumed = train(segmentor, '--work-dir', tmp_path, '--resume', '--cfg-options',
                    'train_cfg.max_iters=3')
    assert 'resumed epoch: 0, iter: 2' in resumed


def test_two_processes_on_the_cpu(segmentor, tmp_path):
    train(segmentor, 2, '--work-dir', tmp_path,
          program=('bash', ROOT / 'tools/dist_train.sh'), PORT=free_port())
    assert np.isfinite(losses(tmp_path)).all()
    assert (tmp_path / 'iter_2.pth').is_file()


def test_a_classifier_learns_from_pseudo_tags(classifier, tmp_path):
    train(classifier, '--work-dir', tmp_path)
    assert np.isfinite(losses(tmp_path)).all()


def test_a_training_free_config_is_refused():
    config = ROOT / 'configs/tagclip/tagclip_vit-base-p16_openai_voc07.py'
    result = run(sys.executable, ROOT / 'tools/train.py', config)
    assert result.returncode == 1
    assert 'has no train_dataloader: its model is not trained' in result.stderr
