# Made of published.yml by tools/dev/make_configs.py.
_base_ = [
    '../_base_/methods/piaa-sclip.py',
    '../_base_/backbones/vit-base-p16_openai.py',
    '../_base_/datasets/piaa/voc12_tagclip-labels.py',
    '../_base_/pipelines/piaa.py',
]
model = dict(**_base_.parts.TagCLIP, encoder=_base_.backbone.encoder)
train_dataloader = dict(dataset=dict(**_base_.train_dataset, pipeline=_base_.test_pipeline))
test_dataloader = dict(dataset=dict(**_base_.dataset, pipeline=_base_.test_pipeline))
