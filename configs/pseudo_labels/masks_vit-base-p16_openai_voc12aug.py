# Pseudo masks of VOC2012's 10,582 augmented training images.
_base_ = [
    '../_base_/methods/cls-seg.py',
    '../_base_/backbones/vit-base-p16_openai.py',
    '../_base_/datasets/masks/voc12.py',
    '../_base_/pseudo_masks.py',
]
model = dict(
    tagger=dict(
        encoder=_base_.backbone.encoder,
        head=dict(dmar=_base_.backbone.DMAR),
        **_base_.parts.TagCLIP,
    ),
    affinity=dict(**_base_.backbone.AffinityRefinement_voc, **_base_.parts.AffinityRefinement),
    **_base_.parts.CLSSeg,
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
