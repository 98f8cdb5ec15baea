# All 116,592 labels that the annotations of val2014 name, as in PIAA. TagCLIP's figure is on
# its own list: coco14_tagclip-labels.
_base_ = '../../evaluators/tags.py'
title = 'COCO2014 val, all labels of the annotations'
dataset = dict(
    type='mmtagclip.CocoMultiLabel',
    data_root='data/coco',
    ann_file='annotations/instances_val2014.json',
    data_prefix='val2014',
    test_mode=True,
)
parts = dict(TagCLIP=dict(classes='coco', background='coco_background'))
