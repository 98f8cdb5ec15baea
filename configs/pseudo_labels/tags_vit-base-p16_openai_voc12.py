# Pseudo tags of VOC2012's 5,717 training images.
_base_ = [
    '../_base_/methods/tagclip.py',
    '../_base_/backbones/vit-base-p16_openai.py',
    '../_base_/pseudo_tags.py',
]
model = dict(
    encoder=_base_.backbone.encoder,
    head=dict(dmar=_base_.backbone.DMAR),
    classes='voc',
    background='voc_background',
)
test_dataloader = dict(
    dataset=dict(
        type='mmtagclip.VOCMultiLabel',
        data_root='data/VOCdevkit/VOC2012',
        split='',
        image_set_path='ImageSets/Main/train.txt',
        test_mode=True,
        pipeline=_base_.test_pipeline,
    )
)
