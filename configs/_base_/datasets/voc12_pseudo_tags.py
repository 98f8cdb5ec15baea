# Trained on the pseudo tags of tags_vit-base-p16_openai_voc12.py, evaluated on
# VOC2012's 5,823 validation images.
_base_ = '../pipelines/learn_tags.py'
_voc = dict(type='mmtagclip.VOCMultiLabel', data_root='data/VOCdevkit/VOC2012', split='')
test_pipeline = _base_.test_pipeline
test_pipeline[-1].meta_keys = (
    'sample_idx',
    'img_path',
    'ori_shape',
    'img_shape',
    'gt_label_difficult',
)
train_dataloader = dict(
    dataset=dict(
        labels='work_dirs/tags_vit-base-p16_openai_voc12/pseudo_labels',
        dataset=dict(
            **_voc, image_set_path='ImageSets/Main/train.txt', pipeline=_base_.train_pipeline
        ),
    ),
)
val_dataloader = dict(
    _base_.test_dataloader,
    persistent_workers=True,
    dataset=dict(
        **_voc, image_set_path='ImageSets/Main/val.txt', pipeline=test_pipeline, test_mode=True
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='mmtagclip.VOCAveragePrecision')
test_evaluator = val_evaluator
