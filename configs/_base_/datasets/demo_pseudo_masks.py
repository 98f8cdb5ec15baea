# Trained on the pseudo masks of masks_demo.py, evaluated on the demo's scenes.
_data = '{{fileDirname}}/../../../demo/data'
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(272, 272), ratio_range=(0.75, 1.33), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(128, 128)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='mmtagclip.PseudoLabelDataset',
        labels='work_dirs/masks_demo/pseudo_labels',
        dataset=dict(
            type='mmtagclip.VocabularySegDataset',
            classes='data/demo_dev/classes.txt',
            data_root='data/demo_dev',
            data_prefix=dict(img_path='JPEGImages'),
            pipeline=train_pipeline,
        ),
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmtagclip.VocabularySegDataset',
        classes=f'{_data}/classes.txt',
        data_root=_data,
        ann_file='ImageSets/Segmentation/test.txt',
        data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'),
        pipeline=test_pipeline,
        test_mode=True,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
