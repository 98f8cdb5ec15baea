"""Small configs of a segmentor and a classifier that learn from pseudo labels."""

import io

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from mmtagclip.jobs.description import Source
from mmtagclip.jobs.runner import Job, Manifest
from mmtagclip.records import ImageRecord
from tests.conftest import picture

NAMES = ['dog', 'cat']


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Six pictures with pseudo masks and pseudo tags."""
    root = tmp_path_factory.mktemp('data')
    (root / 'images').mkdir()
    images = [Source(str(root / 'images' / f'{i}.png')) for i in range(6)]
    masks = Job(root / 'masks', Manifest('masks', ('background', *NAMES)), images)
    tags = Job(root / 'tags', Manifest('tags', tuple(NAMES)), images)
    for i in range(6):
        Image.fromarray(picture(64, 64, i)).save(root / 'images' / f'{i}.png')
        buffer = io.BytesIO()
        Image.fromarray(np.full((64, 64), i % 3, np.uint8)).save(buffer, format='PNG')
        masks.add(i, ImageRecord(images[i].name), {'masks.png': buffer.getvalue()})
        found = tuple(NAMES[: i % 3])
        tags.add(i, ImageRecord(images[i].name, found, (0.9,) * len(found)))
    assert masks.finish()
    assert tags.finish()
    return root


def common(batch_size=2):
    return {
        'train_dataloader': {
            'batch_size': batch_size,
            'num_workers': 0,
            'sampler': {'type': 'InfiniteSampler'},
        },
        'train_cfg': {'type': 'IterBasedTrainLoop', 'max_iters': 2},
        'optim_wrapper': {'type': 'OptimWrapper', 'optimizer': {'type': 'SGD', 'lr': 0.1}},
        'default_hooks': {
            'logger': {'type': 'LoggerHook', 'interval': 1, 'log_metric_by_epoch': False},
            'checkpoint': {'type': 'CheckpointHook', 'by_epoch': False, 'interval': 2},
        },
        'log_processor': {'by_epoch': False},
        'randomness': {'seed': 0},
    }


@pytest.fixture(scope='module')
def segmentor(data):
    norm = {'type': 'BN'}
    config = common()
    config['train_dataloader']['dataset'] = {
        'type': 'mmtagclip.PseudoLabelDataset',
        'labels': str(data / 'masks'),
        'dataset': {
            'type': 'mmtagclip.VocabularySegDataset',
            'classes': NAMES,
            'img_suffix': '.png',
            'data_prefix': {'img_path': str(data / 'images')},
        },
        'pipeline': [
            {'type': 'LoadImageFromFile'},
            {'type': 'LoadAnnotations'},
            {'type': 'PackSegInputs'},
        ],
    }
    config['test_dataloader'] = {
        **config['train_dataloader'],
        'batch_size': 1,
        'sampler': {'type': 'DefaultSampler', 'shuffle': False},
    }
    config['tta_pipeline'] = [
        {'type': 'LoadImageFromFile'},
        {
            'type': 'TestTimeAug',
            'transforms': [
                [{'type': 'RandomFlip', 'prob': 0.0}, {'type': 'RandomFlip', 'prob': 1.0}],
                [{'type': 'LoadAnnotations'}],
                [{'type': 'PackSegInputs'}],
            ],
        },
    ]
    path = data / 'segmentor.py'
    Config(
        {
            **config,
            'default_scope': 'mmseg',
            'tta_model': {'type': 'SegTTAModel'},
            'test_evaluator': {'type': 'IoUMetric'},
            'test_cfg': {'type': 'TestLoop'},
            'visualizer': {
                'type': 'SegLocalVisualizer',
                'name': 'visualizer',
                'vis_backends': [{'type': 'LocalVisBackend'}],
            },
            'model': {
                'type': 'EncoderDecoder',
                'data_preprocessor': {
                    'type': 'SegDataPreProcessor',
                    'size': (64, 64),
                    'mean': [120.0] * 3,
                    'std': [60.0] * 3,
                },
                'backbone': {
                    'type': 'MixVisionTransformer',
                    'embed_dims': 8,
                    'num_heads': [1] * 4,
                    'num_layers': [1] * 4,
                },
                'decode_head': {
                    'type': 'SegformerHead',
                    'in_channels': [8] * 4,
                    'channels': 16,
                    'in_index': [0, 1, 2, 3],
                    'num_classes': 3,
                    'norm_cfg': norm,
                },
                'test_cfg': {'mode': 'whole'},
            },
        }
    ).dump(str(path))
    return path


@pytest.fixture(scope='module')
def classifier(data):
    config = common()
    config['train_dataloader'].update(
        collate_fn={'type': 'default_collate'},
        dataset={
            'type': 'mmtagclip.PseudoLabelDataset',
            'labels': str(data / 'tags'),
            'drop_untagged': True,
            'dataset': {
                'type': 'mmpretrain.CustomDataset',
                'data_prefix': str(data / 'images'),
                'with_label': False,
                'metainfo': {'classes': NAMES},
            },
            'pipeline': [{'type': 'LoadImageFromFile'}, {'type': 'PackInputs'}],
        },
    )
    path = data / 'classifier.py'
    Config(
        {
            **config,
            'default_scope': 'mmpretrain',
            'visualizer': {
                'type': 'UniversalVisualizer',
                'vis_backends': [{'type': 'LocalVisBackend'}],
            },
            'model': {
                'type': 'ImageClassifier',
                'data_preprocessor': {'num_classes': 2, 'to_onehot': True},
                'backbone': {'type': 'ResNet', 'depth': 18, 'base_channels': 8, 'stem_channels': 8},
                'neck': {'type': 'GlobalAveragePooling'},
                'head': {'type': 'MultiLabelLinearClsHead', 'num_classes': 2, 'in_channels': 64},
            },
        }
    ).dump(str(path))
    return path
