# Cityscapes val, 19 classes.
_base_ = '../names_stuff.py'
title = 'Cityscapes val'
dataset = dict(
    type='CityscapesDataset',
    data_root='data/cityscapes',
    data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val'),
    test_mode=True,
)
parts = dict(
    SegTextHead=dict(classes='cityscapes'),
    TagCLIP=dict(classes='cityscapes'),
    CLSSeg=dict(background_prompts='cocostuff_clsseg_background', with_background=False),
    ConceptSegmentor=dict(classes='seg_cityscapes_activesam'),
    LoadRegions=dict(path='data/cityscapes/regions/val'),
)
