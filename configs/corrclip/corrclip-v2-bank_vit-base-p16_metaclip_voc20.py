# Made of published.yml by tools/dev/make_configs.py.
_base_ = [
    '../_base_/methods/corrclip-v2-bank.py',
    '../_base_/backbones/vit-base-p16_metaclip.py',
    '../_base_/datasets/masks/voc20.py',
    '../_base_/pipelines/masks_regions.py',
]
model = dict(
    encoder=_base_.backbone.encoder,
    head=dict(classes='seg_voc_plain', replace=dict(person='people')),
)
test_pipeline = _base_.test_pipeline
test_pipeline[3].path = 'data/VOCdevkit/VOC2012/regions'
tta_pipeline = _base_.tta_pipeline
tta_pipeline[3].path = 'data/VOCdevkit/VOC2012/regions'
test_dataloader = dict(dataset=dict(**_base_.dataset, pipeline=test_pipeline))
