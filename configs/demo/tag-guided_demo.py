_base_ = './direct_demo.py'
# Only classes that TagCLIP tags the image with are looked for.
model = dict(
    # Fewer names share the probability, so the background needs more; chosen on development scenes.
    head=dict(background_threshold=0.98),
    tags='own',
    tagger=dict(
        type='mmtagclip.TagCLIP',
        encoder=dict(type='mmtagclip.CLIPEncoder', **_base_.backbone.encoder),
        head=dict(
            type='mmtagclip.TagCLIPHead',
            dmar=dict(type='mmtagclip.DMAR', **_base_.backbone.DMAR),
            cwr=dict(type='mmtagclip.CWR', threshold=0.5),
            **_base_.parts.TagCLIPHead,
        ),
        templates='templates_85',
        **_base_.parts.TagCLIP,
    ),
)
