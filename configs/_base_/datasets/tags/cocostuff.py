# Tags of the pixel maps, made by tools/dataset_converters/masks2tags.py.
_base_ = ['../../evaluators/tags.py', '../names_stuff.py']
title = 'COCO-Stuff, 171 classes'
dataset = dict(
    type='mmpretrain.MultiLabelDataset',
    data_root='data/coco',
    ann_file='annotations/stuff_tags_val2017.json',
    data_prefix='val2017',
    test_mode=True,
)
parts = dict(TagCLIP=dict(classes='cocostuff'))
test_evaluator = _base_.test_evaluator
test_evaluator[1].k = _base_.threshold
