# Made of published.yml by tools/dev/make_configs.py.
_base_ = [
    '../_base_/methods/tagclip-sam3.py',
    '../_base_/backbones/vit-base-p16_openai.py',
    '../_base_/datasets/masks/pascal-context60.py',
    '../_base_/pipelines/concepts.py',
]
model = dict(
    background_rule=dict(type='mmtagclip.MarginBackground', threshold=0.1),
    **_base_.parts.ConceptSegmentor,
    tagger=dict(
        **_base_.parts.TagCLIP,
        encoder=_base_.backbone.encoder,
        head=dict(
            **_base_.parts.TagCLIPHead, dmar=_base_.backbone.DMAR_stuff, cwr=_base_.parts.CWR
        ),
    ),
)
test_dataloader = dict(dataset=dict(**_base_.dataset, pipeline=_base_.test_pipeline))
