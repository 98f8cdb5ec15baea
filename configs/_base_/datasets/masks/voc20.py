# VOC2012 val, 20 classes; pixels of the background count for nothing.
title = 'VOC2012 val, without background'
dataset = dict(
    type='mmtagclip.VocabularySegDataset',
    classes='voc',
    with_background=False,
    reduce_zero_label=True,
    data_root='data/VOCdevkit/VOC2012',
    ann_file='ImageSets/Segmentation/val.txt',
    data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'),
    test_mode=True,
)
layers = 'voc'
parts = dict(
    SegTextHead=dict(classes='seg_voc'),
    TagCLIP=dict(classes='voc', background='voc_background'),
    CLSSeg=dict(prompts='voc_clsseg', background_prompts='voc_background', with_background=False),
    ConceptSegmentor=dict(classes='seg_voc_activesam'),
    AffinityRefinement=dict(box_threshold=0.4),
    LoadRegions=dict(path='data/VOCdevkit/VOC2012/regions'),
)
