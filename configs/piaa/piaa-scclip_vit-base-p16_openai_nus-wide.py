# Made of published.yml by tools/dev/make_configs.py.
_base_ = [
    '../_base_/methods/piaa-scclip.py',
    '../_base_/backbones/vit-base-p16_openai.py',
    '../_base_/datasets/piaa/nus-wide.py',
    '../_base_/pipelines/piaa.py',
]
model = dict(
    **_base_.parts.TagCLIP,
    encoder=_base_.backbone.encoder,
    head=dict(**_base_.parts.PIAAHead, scorer=_base_.parts.GaussianClassifier),
)
train_dataloader = dict(dataset=dict(**_base_.train_dataset, pipeline=_base_.test_pipeline))
test_dataloader = dict(dataset=dict(**_base_.dataset, pipeline=_base_.test_pipeline))
