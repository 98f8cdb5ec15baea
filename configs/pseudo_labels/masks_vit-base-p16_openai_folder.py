# Step 1 of a folder of photographs: pseudo masks. Pixels whose winning
# probability is under 0.95 after the CRF are 255, as in CLIP-ES.
_base_ = [
    './folder.py',
    '../_base_/methods/cls-seg.py',
    '../_base_/backbones/vit-base-p16_openai.py',
    '../_base_/pseudo_masks.py',
]
work_dir = f'{_base_.out}/masks'
model = dict(
    tagger=dict(
        encoder=_base_.backbone.encoder,
        head=dict(dmar=_base_.backbone.DMAR),
        classes=_base_.classes,
        background='coco_background',
    ),
    affinity=_base_.backbone.AffinityRefinement,
    background_prompts='coco_background',
    post_processor=dict(type='mmtagclip.DenseCRF'),
    with_probabilities=True,
)
test_dataloader = dict(
    dataset=dict(
        type='mmtagclip.ImageFolder',
        data_prefix=_base_.photos,
        test_mode=True,
        pipeline=_base_.test_pipeline,
    )
)
test_cfg = dict(confidence=0.95)
