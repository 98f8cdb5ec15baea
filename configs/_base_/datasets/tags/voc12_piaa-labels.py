# PIAA's images, the 5,823 of val and not the 1,449 of the segmentation split; PIAA's labels.
_base_ = './voc12.py'
title = 'VOC2012 val, 5,823 images, difficult objects negative'
dataset = dict(image_set_path='ImageSets/Main/val.txt')
test_evaluator = _base_.difficult_negative
