# The list published with TagCLIP, made by tools/dataset_converters/text2tags.py.
_base_ = './coco14.py'
title = "COCO2014 val, TagCLIP's list of labels"
dataset = dict(type='mmpretrain.MultiLabelDataset', ann_file='annotations/tagclip_val2014.json')
