model = dict(
    type='mmtagclip.TagCLIP',
    encoder=dict(type='mmtagclip.CLIPEncoder'),
    head=dict(
        type='mmtagclip.TagCLIPHead',
        dmar=dict(type='mmtagclip.DMAR'),
        cwr=dict(type='mmtagclip.CWR', threshold=0.5),
        threshold=0.5,
    ),
    templates='templates_85',
    data_preprocessor=dict(type='mmtagclip.CLIPDataPreprocessor'),
)
