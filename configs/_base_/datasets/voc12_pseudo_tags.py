# Trained on the pseudo tags of tags_vit-base-p16_openai_voc12.py, evaluated on
# VOC2012's 5,823 validation images.
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=448, crop_ratio_range=(0.5, 1.0)),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(448, 448)),
    dict(
        type='PackInputs',
        meta_keys=('sample_idx', 'img_path', 'ori_shape', 'img_shape', 'gt_label_difficult'),
    ),
]
train_dataloader = dict(
    batch_size=32,
    num_workers=4,
    persistent_workers=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='mmtagclip.PseudoLabelDataset',
        labels='work_dirs/tags_vit-base-p16_openai_voc12/pseudo_labels',
        dataset=dict(
            type='mmtagclip.VOCMultiLabel',
            data_root='data/VOCdevkit/VOC2012',
            split='',
            image_set_path='ImageSets/Main/train.txt',
            pipeline=train_pipeline,
        ),
    ),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=4,
    persistent_workers=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmtagclip.VOCMultiLabel',
        data_root='data/VOCdevkit/VOC2012',
        split='',
        image_set_path='ImageSets/Main/val.txt',
        pipeline=test_pipeline,
        test_mode=True,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='VOCAveragePrecision')
test_evaluator = val_evaluator
