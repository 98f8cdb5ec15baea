# COCO-Object. Masks are made by tools/dataset_converters/coco_object.py.
title = 'COCO-Object'
dataset = dict(
    type='mmtagclip.VocabularySegDataset',
    classes='coco',
    data_root='data/coco',
    data_prefix=dict(img_path='val2017', seg_map_path='objects/val2017'),
    test_mode=True,
)
parts = dict(
    SegTextHead=dict(
        classes='seg_coco', background='seg_coco_background', background_threshold=0.1
    ),
    TagCLIP=dict(classes='coco', background='coco_background'),
    CLSSeg=dict(prompts='coco_clsseg', background_prompts='coco_background'),
    ConceptSegmentor=dict(classes='seg_coco_activesam', background=['background']),
    LoadRegions=dict(path='data/coco/regions/val2017'),
)
