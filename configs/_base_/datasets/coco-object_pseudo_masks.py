# Trained on the pseudo masks of masks_vit-base-p16_openai_coco-object.py,
# evaluated on the masks that tools/dataset_converters/coco_object.py makes.
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(2048, 512), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(512, 512), cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(2048, 512), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='mmtagclip.PseudoLabelDataset',
        labels='work_dirs/masks_vit-base-p16_openai_coco-object/pseudo_labels',
        dataset=dict(
            type='mmtagclip.VocabularySegDataset',
            classes='coco',
            data_root='data/coco',
            data_prefix=dict(img_path='train2017'),
            pipeline=train_pipeline,
        ),
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmtagclip.VocabularySegDataset',
        classes='coco',
        data_root='data/coco',
        data_prefix=dict(img_path='val2017', seg_map_path='objects/val2017'),
        pipeline=test_pipeline,
        test_mode=True,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
