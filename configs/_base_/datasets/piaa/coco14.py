# Fitted to the 82,081 images of train2014 that show something, tested on the 40,137 of
# val2014, whose labels are all that the annotations name.
_base_ = '../../evaluators/tags.py'
title = 'COCO2014 val, all labels of the annotations'
train_dataset = dict(
    type='mmtagclip.CocoMultiLabel',
    data_root='data/coco',
    ann_file='annotations/instances_train2014.json',
    data_prefix='train2014',
)
dataset = dict(
    train_dataset,
    ann_file='annotations/instances_val2014.json',
    data_prefix='val2014',
    test_mode=True,
)
parts = dict(
    TagCLIP=dict(classes='coco'),
    GaussianClassifier=dict(clean_temperature=0.01),
    PIAAHead=dict(patch_temperature=400.0),
)
