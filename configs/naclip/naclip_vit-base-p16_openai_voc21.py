# Made of published.yml by tools/dev/make_configs.py.
_base_ = [
    '../_base_/methods/naclip.py',
    '../_base_/backbones/vit-base-p16_openai.py',
    '../_base_/datasets/masks/voc21.py',
    '../_base_/pipelines/masks_resized.py',
]
# The image in one piece; what the patches do not cover is cut off.
model = dict(
    windows=dict(_delete_=True, type='mmtagclip.WholeImage', cut=True),
    encoder=_base_.backbone.encoder,
    head=_base_.parts.SegTextHead,
)
test_dataloader = dict(dataset=dict(**_base_.dataset, pipeline=_base_.test_pipeline))
