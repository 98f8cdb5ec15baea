# VOC2012 val, 20 classes and background.
title = 'VOC2012 val, with background'
dataset = dict(
    type='PascalVOCDataset',
    data_root='data/VOCdevkit/VOC2012',
    ann_file='ImageSets/Segmentation/val.txt',
    data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'),
    test_mode=True,
)
layers = 'voc'
parts = dict(
    SegTextHead=dict(classes='seg_voc', background='seg_voc_background', background_threshold=0.1),
    TagCLIP=dict(classes='voc', background='voc_background'),
    CLSSeg=dict(prompts='voc_clsseg', background_prompts='voc_background'),
    ConceptSegmentor=dict(classes='seg_voc_activesam', background=['background']),
    AffinityRefinement=dict(box_threshold=0.4),
    LoadRegions=dict(path='data/VOCdevkit/VOC2012/regions'),
)
