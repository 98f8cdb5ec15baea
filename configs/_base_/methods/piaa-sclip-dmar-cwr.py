# Not published: the classifier's scores in the place of the coarse ones, below DMAR and CWR.
_base_ = './piaa-sclip.py'
model = dict(
    head=dict(
        _delete_=True,
        type='mmtagclip.TagCLIPHead',
        scorer=dict(type='mmtagclip.GaussianClassifier', score_temperature=1.0),
        dmar=dict(type='mmtagclip.DMAR'),
        cwr=dict(type='mmtagclip.CWR', threshold=0.5),
    )
)
