# Step 1 of a folder of photographs: pseudo tags.
_base_ = [
    './folder.py',
    '../_base_/methods/tagclip.py',
    '../_base_/backbones/vit-base-p16_openai.py',
    '../_base_/pseudo_tags.py',
]
work_dir = f'{_base_.out}/tags'
model = dict(
    encoder=_base_.backbone.encoder,
    head=dict(dmar=_base_.backbone.DMAR),
    classes=_base_.classes,
    background='coco_background',
)
test_dataloader = dict(
    dataset=dict(
        type='mmtagclip.ImageFolder',
        data_prefix=_base_.photos,
        test_mode=True,
        pipeline=_base_.test_pipeline,
    )
)
