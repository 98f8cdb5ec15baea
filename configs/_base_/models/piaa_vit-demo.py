_base_ = './tagclip_vit-demo.py'
# A bank of 64 patches a class and not of 512: there are only 120 scenes.
model = dict(
    head=dict(
        _delete_=True,
        type='mmtagclip.PIAAHead',
        scorer=dict(type='mmtagclip.GaussianClassifier', bank_size=64),
    )
)
