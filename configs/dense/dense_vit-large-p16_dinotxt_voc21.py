# Made of published.yml by tools/dev/make_configs.py.
_base_ = [
    '../_base_/methods/dense.py',
    '../_base_/backbones/vit-large-p16_dinotxt.py',
    '../_base_/datasets/masks/voc21.py',
    '../_base_/pipelines/masks_whole.py',
]
# Nothing is published of it: words and thresholds are SCLIP's, for OpenAI's weights.
model = dict(
    encoder=_base_.backbone.encoder, head=dict(**_base_.parts.SegTextHead, area_threshold=0.1)
)
test_dataloader = dict(dataset=dict(**_base_.dataset, pipeline=_base_.test_pipeline))
