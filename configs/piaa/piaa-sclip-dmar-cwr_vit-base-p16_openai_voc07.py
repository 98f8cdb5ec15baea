# Made of published.yml by tools/dev/make_configs.py.
_base_ = './piaa-sclip_vit-base-p16_openai_voc07.py'
model = dict(
    head=dict(
        _delete_=True,
        type='mmtagclip.TagCLIPHead',
        scorer=dict(type='mmtagclip.GaussianClassifier', score_temperature=1.0),
        dmar=dict(type='mmtagclip.DMAR', **_base_.backbone.DMAR),
        cwr=dict(type='mmtagclip.CWR', threshold=0.5),
    ),
)
