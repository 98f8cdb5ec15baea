# Made of published.yml by tools/dev/make_configs.py.
_base_ = [
    '../_base_/methods/trident.py',
    '../_base_/backbones/vit-base-p16_openai.py',
    '../_base_/datasets/masks/voc20.py',
    '../_base_/pipelines/masks_resized.py',
]
model = dict(
    encoder=_base_.backbone.encoder,
    head=dict(classes='seg_voc_plain'),
    windows=dict(stride=112),
    gatherer=dict(factor=0.0),
)
test_dataloader = dict(dataset=dict(**_base_.dataset, pipeline=_base_.test_pipeline))
