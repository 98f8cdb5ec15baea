# COCO-Stuff, 171 classes. Masks are made by tools/dataset_converters/remap_masks.py.
_base_ = '../names_stuff.py'
title = 'COCO-Stuff, 171 classes'
dataset = dict(
    type='mmtagclip.VocabularySegDataset',
    classes='cocostuff',
    with_background=False,
    data_root='data/coco',
    data_prefix=dict(img_path='val2017', seg_map_path='stuff171/val2017'),
    test_mode=True,
)
parts = dict(
    SegTextHead=dict(classes='seg_cocostuff'),
    TagCLIP=dict(classes='cocostuff'),
    CLSSeg=dict(
        prompts='cocostuff_clsseg',
        background_prompts='cocostuff_clsseg_background',
        with_background=False,
    ),
    ConceptSegmentor=dict(classes='seg_cocostuff_activesam'),
    LoadRegions=dict(path='data/coco/regions/val2017'),
)
