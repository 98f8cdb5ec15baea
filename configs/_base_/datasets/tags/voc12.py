# VOC2012, the 1,449 images of the segmentation split, as in TagCLIP.
_base_ = './voc07.py'
title = 'VOC2012 val, 1,449 images, difficult objects positive'
dataset = dict(
    data_root='data/VOCdevkit/VOC2012',
    split='',
    image_set_path='ImageSets/Segmentation/val.txt',
)
