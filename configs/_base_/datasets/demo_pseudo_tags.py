# Trained on the pseudo tags of tags_demo.py, evaluated on the demo's scenes.
_base_ = '../pipelines/learn_tags.py'
_demo = '{{fileDirname}}/../../../demo/data'
train_pipeline = _base_.train_pipeline
train_pipeline[1].scale = 192
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = (224, 224)
train_dataloader = dict(
    num_workers=2,
    dataset=dict(
        labels='work_dirs/tags_demo/pseudo_labels',
        dataset=dict(
            type='CustomDataset',
            data_root='data/demo_dev',
            data_prefix='JPEGImages',
            with_label=False,
            pipeline=train_pipeline,
        ),
    ),
)
val_dataloader = dict(
    _base_.test_dataloader,
    num_workers=2,
    persistent_workers=True,
    dataset=dict(
        type='mmtagclip.VOCMultiLabel',
        data_root=_demo,
        split='test',
        classes=f'{_demo}/classes.txt',
        pipeline=test_pipeline,
        test_mode=True,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='mmtagclip.AveragePrecision')
test_evaluator = val_evaluator
