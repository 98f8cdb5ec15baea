# PASCAL Context, 59 classes and background.
_base_ = '../names_stuff.py'
title = 'PASCAL Context, 60 classes'
dataset = dict(
    type='PascalContextDataset',
    data_root='data/VOCdevkit/VOC2010',
    ann_file='ImageSets/SegmentationContext/val.txt',
    data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClassContext'),
    test_mode=True,
)
parts = dict(
    SegTextHead=dict(classes='pascal_context', background=['background'], background_threshold=0.1),
    TagCLIP=dict(classes='pascal_context'),
    CLSSeg=dict(background_prompts='cocostuff_clsseg_background'),
    ConceptSegmentor=dict(classes='seg_pascal_context_activesam', background=['background']),
    LoadRegions=dict(path='data/VOCdevkit/VOC2010/regions'),
)
