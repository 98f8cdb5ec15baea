# Trained on the pseudo masks of masks_demo.py, evaluated on the demo's scenes.
_base_ = ['../pipelines/learn_masks.py', './masks/demo.py']
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(272, 272), ratio_range=(0.75, 1.33), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(128, 128)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = _base_.test_pipeline
test_pipeline.pop(1)
train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    dataset=dict(
        labels='work_dirs/masks_demo/pseudo_labels',
        dataset=dict(
            classes='data/demo_dev/classes.txt',
            data_root='data/demo_dev',
            data_prefix=dict(img_path='JPEGImages'),
            pipeline=train_pipeline,
        ),
    ),
)
val_dataloader = dict(
    _base_.test_dataloader,
    num_workers=2,
    persistent_workers=True,
    dataset=dict(**_base_.dataset, pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
