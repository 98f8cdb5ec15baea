# COCO-Stuff, its 171 classes in 27 groups. Masks: tools/dataset_converters/remap_masks.py.
_base_ = './cocostuff171.py'
title = 'COCO-Stuff-27'
dataset = dict(classes='cocostuff27', data_prefix=dict(seg_map_path='stuff27/val2017'))
parts = dict(CLSSeg=dict(label_map='cocostuff_groups', groups='cocostuff27'))
