# Pseudo masks of VOC2012's 10,582 augmented training images.
_base_ = [
    '../_base_/models/cls-seg_vit-base-p16_openai.py',
    '../_base_/pseudo_masks.py',
]
model = dict(
    tagger=dict(classes='voc', background='voc_background'),
    prompts='voc_clsseg',
    background_prompts='voc_background',
    affinity=dict(layers=(4, 5, 6, 7, 8, 9, 10), box_threshold=0.4),
    post_processor=dict(type='mmtagclip.DenseCRF'),
    with_probabilities=True,
)
test_dataloader = dict(
    dataset=dict(
        type='mmtagclip.VocabularySegDataset',
        classes='voc',
        data_root='data/VOCdevkit/VOC2012',
        ann_file='ImageSets/Segmentation/trainaug.txt',
        data_prefix=dict(img_path='JPEGImages'),
        test_mode=True,
        pipeline=_base_.test_pipeline,
    )
)
test_cfg = dict(confidence=0.95)
