# Pseudo masks of COCO's training images.
_base_ = [
    '../_base_/models/cls-seg_vit-base-p16_openai.py',
    '../_base_/pseudo_masks.py',
]
model = dict(
    tagger=dict(classes='coco', background='coco_background'),
    prompts='coco_clsseg',
    background_prompts='coco_background',
    post_processor=dict(type='mmtagclip.DenseCRF'),
    with_probabilities=True,
)
test_dataloader = dict(
    dataset=dict(
        type='mmtagclip.VocabularySegDataset',
        classes='coco',
        data_root='data/coco',
        data_prefix=dict(img_path='train2017'),
        test_mode=True,
        pipeline=_base_.test_pipeline,
    )
)
test_cfg = dict(confidence=0.95)
