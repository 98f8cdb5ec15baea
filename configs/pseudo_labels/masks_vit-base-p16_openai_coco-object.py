# Pseudo masks of COCO's training images.
_base_ = [
    '../_base_/methods/cls-seg.py',
    '../_base_/backbones/vit-base-p16_openai.py',
    '../_base_/datasets/masks/coco-object.py',
    '../_base_/pseudo_masks.py',
]
model = dict(
    tagger=dict(
        encoder=_base_.backbone.encoder,
        head=dict(dmar=_base_.backbone.DMAR),
        **_base_.parts.TagCLIP,
    ),
    affinity=_base_.backbone.AffinityRefinement,
    **_base_.parts.CLSSeg,
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
