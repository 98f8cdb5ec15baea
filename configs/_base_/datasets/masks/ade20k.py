# ADE20K val, 150 classes.
_base_ = '../names_stuff.py'
title = 'ADE20K val'
dataset = dict(
    type='ADE20KDataset',
    data_root='data/ade/ADEChallengeData2016',
    data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
    test_mode=True,
)
parts = dict(
    SegTextHead=dict(classes='seg_ade20k'),
    TagCLIP=dict(classes='ade20k'),
    CLSSeg=dict(background_prompts='cocostuff_clsseg_background', with_background=False),
    ConceptSegmentor=dict(classes='seg_ade20k_activesam'),
    LoadRegions=dict(path='data/ade/ADEChallengeData2016/regions/validation'),
)
