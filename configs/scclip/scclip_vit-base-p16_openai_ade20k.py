# Made of published.yml by tools/dev/make_configs.py.
_base_ = [
    '../_base_/methods/scclip.py',
    '../_base_/backbones/vit-base-p16_openai.py',
    '../_base_/datasets/masks/ade20k.py',
    '../_base_/pipelines/masks_resized.py',
]
model = dict(encoder=_base_.backbone.encoder, head=_base_.parts.SegTextHead)
test_dataloader = dict(dataset=dict(**_base_.dataset, pipeline=_base_.test_pipeline))
