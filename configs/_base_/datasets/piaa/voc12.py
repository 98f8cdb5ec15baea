# Fitted to the 5,717 images of VOC2012 train, tested on the 5,823 of val.
_base_ = './voc07.py'
title = 'VOC2012 val, 5,823 images, difficult objects negative'
train_dataset = dict(data_root='data/VOCdevkit/VOC2012', split='train')
dataset = dict(data_root='data/VOCdevkit/VOC2012', split='val')
