_base_ = './direct_demo.py'
# Only classes that TagCLIP tags the image with are looked for.
model = dict(
    tags='own',
    tagger=dict(
        type='mmtagclip.TagCLIP',
        encoder=dict(type='mmtagclip.CLIPEncoder', **_base_.backbone.encoder),
        head=dict(
            type='mmtagclip.TagCLIPHead',
            dmar=dict(type='mmtagclip.DMAR', **_base_.backbone.DMAR),
            cwr=dict(type='mmtagclip.CWR', threshold=0.5),
            threshold=0.2,  # the best masks of development scenes; a wrong tag costs little here
        ),
        templates='templates_85',
        **_base_.parts.TagCLIP,
    ),
)
