# Fitted to the 5,011 images of VOC2007 trainval, tested on the 4,952 of test.
_base_ = '../../evaluators/voc.py'
title = 'VOC2007 test, difficult objects negative'
train_dataset = dict(
    type='mmtagclip.VOCMultiLabel', data_root='data/VOCdevkit/VOC2007', split='trainval'
)
dataset = dict(train_dataset, split='test', test_mode=True)
parts = dict(TagCLIP=dict(classes='voc'))
test_evaluator = _base_.difficult_negative
