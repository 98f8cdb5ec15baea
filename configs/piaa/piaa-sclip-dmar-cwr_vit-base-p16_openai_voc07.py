_base_ = './piaa-sclip_vit-base-p16_openai_voc07.py'
# Not published: the classifier's scores below DMAR and CWR.
model = dict(
    head=dict(
        _delete_=True,
        type='mmtagclip.TagCLIPHead',
        scorer=dict(type='mmtagclip.GaussianClassifier', score_temperature=1.0),
        dmar=dict(type='mmtagclip.DMAR', layers=(8, 9, 10), votes=4),
        cwr=dict(type='mmtagclip.CWR', threshold=0.5),
    )
)
