# The demo's 120 rendered scenes in VOC's layout, with pixel masks.
_base_ = '../names_demo.py'
title = 'Demo, 120 scenes'
dataset = dict(
    type='mmtagclip.VocabularySegDataset',
    classes=_base_.parts.TagCLIP.classes,
    data_root=_base_._demo,
    ann_file='ImageSets/Segmentation/test.txt',
    data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'),
    test_mode=True,
)
