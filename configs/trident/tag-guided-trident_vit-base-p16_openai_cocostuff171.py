# Made of published.yml by tools/dev/make_configs.py.
_base_ = './trident_vit-base-p16_openai_cocostuff171.py'
model = dict(
    tags='own',
    tagger=dict(
        type='mmtagclip.TagCLIP',
        encoder=dict(type='mmtagclip.CLIPEncoder', **_base_.backbone.encoder),
        head=dict(
            type='mmtagclip.TagCLIPHead',
            dmar=dict(type='mmtagclip.DMAR', **_base_.backbone.DMAR_stuff),
            cwr=dict(type='mmtagclip.CWR', threshold=0.1),
            threshold=0.1,
        ),
        templates='templates_85',
        **_base_.parts.TagCLIP,
    ),
)
