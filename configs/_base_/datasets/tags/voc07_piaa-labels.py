# VOC2007 test, PIAA's labels.
_base_ = './voc07.py'
title = 'VOC2007 test, difficult objects negative'
test_evaluator = _base_.difficult_negative
