# The demo's 120 rendered scenes in VOC's layout.
_base_ = ['../../evaluators/tags.py', '../names_demo.py']
title = 'Demo, 120 scenes'
dataset = dict(
    type='mmtagclip.VOCMultiLabel',
    data_root=_base_._demo,
    split='test',
    classes=_base_.parts.TagCLIP.classes,
    test_mode=True,
)
test_evaluator = _base_.test_evaluator
test_evaluator[1].k = _base_.threshold
