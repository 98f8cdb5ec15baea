# Made of published.yml by tools/dev/make_configs.py.
_base_ = [
    '../_base_/methods/corrclip-v2-bank.py',
    '../_base_/backbones/vit-base-p16_metaclip.py',
    '../_base_/datasets/masks/cityscapes.py',
    '../_base_/pipelines/masks_regions.py',
]
model = dict(
    encoder=_base_.backbone.encoder,
    head=dict(**_base_.parts.SegTextHead, replace=dict(person='people, person')),
    windows=dict(size=224),
)
test_pipeline = _base_.test_pipeline
test_pipeline[2].scale = (2048, 784)
test_pipeline[3].path = 'data/cityscapes/regions/val'
tta_pipeline = _base_.tta_pipeline
tta_pipeline[2].scale = (2048, 784)
tta_pipeline[3].path = 'data/cityscapes/regions/val'
test_dataloader = dict(dataset=dict(**_base_.dataset, pipeline=test_pipeline))
