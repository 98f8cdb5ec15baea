# Pseudo tags of COCO2014's training images.
_base_ = [
    '../_base_/methods/tagclip.py',
    '../_base_/backbones/vit-base-p16_openai.py',
    '../_base_/pseudo_tags.py',
]
model = dict(
    encoder=_base_.backbone.encoder,
    head=dict(dmar=_base_.backbone.DMAR),
    classes='coco',
    background='coco_background',
)
test_dataloader = dict(
    dataset=dict(
        type='mmpretrain.CustomDataset',
        data_root='data/coco',
        data_prefix='train2014',
        with_label=False,
        test_mode=True,
        pipeline=_base_.test_pipeline,
    )
)
