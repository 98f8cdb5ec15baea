# PIAA's images: the 60,260 of its published list, of which 13,412 have no label; made by
# tools/dataset_converters/text2tags.py.
_base_ = './nus-wide.py'
title = "NUS-WIDE test, PIAA's list of 60,260 images"
dataset = dict(ann_file='piaa_test.json')
