# OpenAI's ViT-B/16. The weights are downloaded by open_clip at the first use;
# to use a file, set model.encoder.pretrained=None and model.encoder.checkpoint.
model = dict(
    type='mmtagclip.TagCLIP',
    encoder=dict(type='mmtagclip.CLIPEncoder', model='ViT-B-16-quickgelu', pretrained='openai'),
    head=dict(
        type='mmtagclip.TagCLIPHead',
        dmar=dict(type='mmtagclip.DMAR', layers=(8, 9, 10), votes=4),
        cwr=dict(type='mmtagclip.CWR', threshold=0.5),
        threshold=0.5,
    ),
    templates='templates_85',
    data_preprocessor=dict(type='mmtagclip.CLIPDataPreprocessor'),
)
