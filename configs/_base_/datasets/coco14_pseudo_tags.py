# Trained on the pseudo tags of tags_vit-base-p16_openai_coco14.py, evaluated on
# COCO2014's validation images.
_base_ = '../pipelines/learn_tags.py'
train_dataloader = dict(
    dataset=dict(
        labels='work_dirs/tags_vit-base-p16_openai_coco14/pseudo_labels',
        dataset=dict(
            type='CustomDataset',
            data_root='data/coco',
            data_prefix='train2014',
            with_label=False,
            pipeline=_base_.train_pipeline,
        ),
    ),
)
val_dataloader = dict(
    _base_.test_dataloader,
    persistent_workers=True,
    dataset=dict(
        type='mmtagclip.CocoMultiLabel',
        data_root='data/coco',
        ann_file='annotations/instances_val2014.json',
        data_prefix='val2014',
        pipeline=_base_.test_pipeline,
        test_mode=True,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='mmtagclip.AveragePrecision')
test_evaluator = val_evaluator
