# The tagger of tag-guided segmentation: TagCLIP as published, with an encoder of
# its own. Without 'encoder' it would share the segmentor's.
tagger = dict(
    type='mmtagclip.TagCLIP',
    encoder=dict(type='mmtagclip.CLIPEncoder', model='ViT-B-16-quickgelu', pretrained='openai'),
    head=dict(
        type='mmtagclip.TagCLIPHead',
        dmar=dict(type='mmtagclip.DMAR', layers=(8, 9, 10), votes=4),
        cwr=dict(type='mmtagclip.CWR', threshold=0.5),
        threshold=0.5,
    ),
    templates='templates_85',
)
