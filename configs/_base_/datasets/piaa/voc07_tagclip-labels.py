# TagCLIP's labels: difficult objects count as any other.
_base_ = './voc07.py'
title = 'VOC2007 test, difficult objects positive'
test_evaluator = _base_.difficult_positive
