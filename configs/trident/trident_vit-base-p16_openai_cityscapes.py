# Made of published.yml by tools/dev/make_configs.py.
_base_ = [
    '../_base_/methods/trident.py',
    '../_base_/backbones/vit-base-p16_openai.py',
    '../_base_/datasets/masks/cityscapes.py',
    '../_base_/pipelines/masks_resized.py',
]
model = dict(
    encoder=_base_.backbone.encoder,
    head=_base_.parts.SegTextHead,
    gatherer=dict(factor=3.0, negative=0.6, halves='published'),
    label_processor=dict(coarse=0.1),
)
test_pipeline = _base_.test_pipeline
test_pipeline[2].scale = (2048, 688)
tta_pipeline = _base_.tta_pipeline
tta_pipeline[2].scale = (2048, 688)
test_dataloader = dict(dataset=dict(**_base_.dataset, pipeline=test_pipeline))
