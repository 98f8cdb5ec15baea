# Direct segmentation by the demo model; the background's names are its words.
_base_ = [
    '../_base_/methods/maskclip.py',
    '../_base_/backbones/vit-demo.py',
    '../_base_/datasets/masks/demo.py',
    '../_base_/pipelines/masks.py',
]
model = dict(
    # Positions as the demo model was trained with them.
    encoder=dict(**_base_.backbone.encoder, positions='bilinear'),
    head=_base_.parts.SegTextHead,
)
test_dataloader = dict(dataset=dict(**_base_.dataset, pipeline=_base_.test_pipeline))
