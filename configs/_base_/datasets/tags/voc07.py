# VOC2007 test. Both conventions for objects that VOC marks as difficult.
_base_ = '../../evaluators/voc.py'
title = 'VOC2007 test, difficult objects positive'
dataset = dict(
    type='mmtagclip.VOCMultiLabel',
    data_root='data/VOCdevkit/VOC2007',
    split='test',
    test_mode=True,
)
parts = dict(TagCLIP=dict(classes='voc', background='voc_background'))
test_evaluator = [*_base_.difficult_positive, *_base_.difficult_ignored]
