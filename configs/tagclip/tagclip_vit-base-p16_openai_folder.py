# Made of published.yml by tools/dev/make_configs.py.
_base_ = [
    '../_base_/methods/tagclip.py',
    '../_base_/backbones/vit-base-p16_openai.py',
    '../_base_/datasets/tags/folder.py',
    '../_base_/pipelines/tags.py',
]
model = dict(
    **_base_.parts.TagCLIP, encoder=_base_.backbone.encoder, head=dict(dmar=_base_.backbone.DMAR)
)
test_pipeline = _base_.test_pipeline
test_pipeline[0].on_error = 'skip'
test_pipeline[1].max_side = 1024
test_dataloader = dict(dataset=dict(**_base_.dataset, pipeline=test_pipeline))
