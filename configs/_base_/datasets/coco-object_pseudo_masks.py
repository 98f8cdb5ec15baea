# Trained on the pseudo masks of masks_vit-base-p16_openai_coco-object.py,
# evaluated on the masks that tools/dataset_converters/coco_object.py makes.
_base_ = '../pipelines/learn_masks.py'
_coco = dict(classes='coco', data_root='data/coco')
train_dataloader = dict(
    dataset=dict(
        labels='work_dirs/masks_vit-base-p16_openai_coco-object/pseudo_labels',
        dataset=dict(
            **_coco, data_prefix=dict(img_path='train2017'), pipeline=_base_.train_pipeline
        ),
    )
)
val_dataloader = dict(
    _base_.test_dataloader,
    persistent_workers=True,
    dataset=dict(
        **_base_.test_dataloader.dataset,
        **_coco,
        data_prefix=dict(img_path='val2017', seg_map_path='objects/val2017'),
        pipeline=_base_.test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
