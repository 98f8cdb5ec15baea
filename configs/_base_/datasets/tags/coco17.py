_base_ = './coco14.py'
title = 'COCO2017 val'
dataset = dict(ann_file='annotations/instances_val2017.json', data_prefix='val2017')
