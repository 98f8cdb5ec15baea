# Made of published.yml by tools/dev/make_configs.py.
_base_ = [
    '../_base_/methods/tagclip.py',
    '../_base_/backbones/vit-base-p14_tipsv2.py',
    '../_base_/datasets/tags/voc07.py',
    '../_base_/pipelines/tags.py',
]
model = dict(**_base_.parts.TagCLIP, encoder=_base_.backbone.encoder)
test_dataloader = dict(dataset=dict(**_base_.dataset, pipeline=_base_.test_pipeline))
