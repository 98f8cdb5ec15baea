# Trained on the pseudo masks of masks_vit-base-p16_openai_voc12aug.py,
# evaluated on VOC2012's own.
_base_ = '../pipelines/learn_masks.py'
_voc = dict(classes='voc', data_root='data/VOCdevkit/VOC2012')
train_dataloader = dict(
    dataset=dict(
        labels='work_dirs/masks_vit-base-p16_openai_voc12aug/pseudo_labels',
        dataset=dict(
            **_voc,
            ann_file='ImageSets/Segmentation/trainaug.txt',
            data_prefix=dict(img_path='JPEGImages'),
            pipeline=_base_.train_pipeline,
        ),
    ),
)
val_dataloader = dict(
    _base_.test_dataloader,
    persistent_workers=True,
    dataset=dict(
        **_base_.test_dataloader.dataset,
        **_voc,
        ann_file='ImageSets/Segmentation/val.txt',
        data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'),
        pipeline=_base_.test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
