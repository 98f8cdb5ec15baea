_base_ = './piaa_demo.py'
# The classifier's scores in the place of the coarse ones, below DMAR and CWR.
model = dict(
    head=dict(
        _delete_=True,
        type='mmtagclip.TagCLIPHead',
        scorer=dict(
            type='mmtagclip.GaussianClassifier',
            score_temperature=1.0,
            **_base_.parts.GaussianClassifier,
        ),
        dmar=dict(type='mmtagclip.DMAR', **_base_.backbone.DMAR),
        cwr=dict(type='mmtagclip.CWR', threshold=0.5),
    )
)
