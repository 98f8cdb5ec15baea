# NUS-WIDE's own test list; test.json is made by tools/dataset_converters/nus_wide.py.
# The paper does not use NUS-WIDE; no background names, since its concepts hold sky, water,
# road and the like themselves.
_base_ = '../../evaluators/tags.py'
title = 'NUS-WIDE test, its own list'
dataset = dict(
    type='mmpretrain.MultiLabelDataset',
    data_root='data/nus_wide',
    ann_file='test.json',
    data_prefix='Flickr',
    test_mode=True,
)
parts = dict(TagCLIP=dict(classes='nus_wide'))
