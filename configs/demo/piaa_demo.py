_base_ = [
    '../_base_/methods/tagclip.py',
    '../_base_/backbones/vit-demo.py',
    '../_base_/datasets/piaa/demo.py',
    '../_base_/pipelines/fit.py',
]
model = dict(
    encoder=_base_.backbone.encoder,
    head=dict(
        _delete_=True,
        type='mmtagclip.PIAAHead',
        scorer=dict(type='mmtagclip.GaussianClassifier', **_base_.parts.GaussianClassifier),
    ),
    **_base_.parts.TagCLIP,
)
train_dataloader = dict(dataset=dict(**_base_.train_dataset, pipeline=_base_.test_pipeline))
test_dataloader = dict(dataset=dict(**_base_.dataset, pipeline=_base_.test_pipeline))
