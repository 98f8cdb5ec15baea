# Made of published.yml by tools/dev/make_configs.py.
_base_ = [
    '../_base_/methods/itaclip.py',
    '../_base_/backbones/vit-base-p16_openai.py',
    '../_base_/datasets/masks/pascal-context59.py',
    '../_base_/pipelines/masks_resized.py',
]
# Not in the paper: settings are those of COCO-Stuff.
model = dict(encoder=_base_.backbone.encoder, head=dict(classes='seg_pascal_context_itaclip'))
test_dataloader = dict(dataset=dict(**_base_.dataset, pipeline=_base_.test_pipeline))
