_base_ = [
    '../_base_/methods/tagclip.py',
    '../_base_/backbones/vit-demo.py',
    '../_base_/datasets/tags/demo.py',
    '../_base_/pipelines/tags.py',
]
model = dict(
    encoder=_base_.backbone.encoder,
    head=dict(dmar=_base_.backbone.DMAR, **_base_.parts.TagCLIPHead),
    **_base_.parts.TagCLIP,
)
test_dataloader = dict(dataset=dict(**_base_.dataset, pipeline=_base_.test_pipeline))
