# Fitted to the train images. PIAA tests on 60,260 images, of which 13,412 have no label; make
# piaa_test.json of its published list by tools/dataset_converters/text2tags.py, and
# train.json by nus_wide.py --split Train.
_base_ = '../../evaluators/tags.py'
title = "NUS-WIDE test, PIAA's list of 60,260 images"
train_dataset = dict(
    type='mmpretrain.MultiLabelDataset',
    data_root='data/nus_wide',
    ann_file='train.json',
    data_prefix='Flickr',
)
dataset = dict(train_dataset, ann_file='piaa_test.json', test_mode=True)
parts = dict(
    TagCLIP=dict(classes='nus_wide'),
    GaussianClassifier=dict(clean_temperature=500.0),
    PIAAHead=dict(class_token_temperature=10.0, patch_temperature=400.0),
)
