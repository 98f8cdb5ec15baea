# Made of published.yml by tools/dev/make_configs.py.
_base_ = [
    '../_base_/methods/tagclip-sam3.py',
    '../_base_/backbones/vit-base-p16_openai.py',
    '../_base_/datasets/masks/voc21.py',
    '../_base_/pipelines/concepts.py',
]
# Nothing is published of it: the settings are ActiveSAM's, the tags TagCLIP's.
model = dict(
    background_rule=dict(type='mmtagclip.MarginBackground', threshold=0.4),
    **_base_.parts.ConceptSegmentor,
    tagger=dict(
        **_base_.parts.TagCLIP,
        encoder=_base_.backbone.encoder,
        head=dict(dmar=_base_.backbone.DMAR),
    ),
)
test_dataloader = dict(dataset=dict(**_base_.dataset, pipeline=_base_.test_pipeline))
