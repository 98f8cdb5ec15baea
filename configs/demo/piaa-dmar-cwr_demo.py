_base_ = './piaa_demo.py'
# The classifier's scores in the place of the coarse ones, below DMAR and CWR.
model = dict(
    head=dict(
        _delete_=True,
        type='mmtagclip.TagCLIPHead',
        scorer=dict(type='mmtagclip.GaussianClassifier', bank_size=64, score_temperature=1.0),
        dmar=dict(type='mmtagclip.DMAR', layers=(8, 9, 10), votes=4),
        cwr=dict(type='mmtagclip.CWR', threshold=0.5),
    )
)
