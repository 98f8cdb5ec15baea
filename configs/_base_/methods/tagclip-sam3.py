# ActiveSAM's settings, with TagCLIP in the place of the preview. A tag is here a class that
# TagCLIP does not rule out, so its threshold is low: SAM 3's presence decides.
_base_ = './concepts.py'
model = dict(
    confidence=0.3,
    context=[dict(type='mmtagclip.NeighbourContext', count=2)],
    tags='own',
    tagger=dict(
        type='mmtagclip.TagCLIP',
        encoder=dict(type='mmtagclip.CLIPEncoder'),
        head=dict(
            type='mmtagclip.TagCLIPHead',
            dmar=dict(type='mmtagclip.DMAR'),
            cwr=dict(type='mmtagclip.CWR', threshold=0.5),
            threshold=0.2,
        ),
        templates='templates_85',
    ),
)
