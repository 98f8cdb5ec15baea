# TagCLIP's images, the 1,449 of the segmentation split, and labels: difficult objects count
# as any other.
_base_ = './voc12.py'
title = 'VOC2012 val, 1,449 images, difficult objects positive'
dataset = dict(split='', image_set_path='ImageSets/Segmentation/val.txt')
test_evaluator = _base_.difficult_positive
