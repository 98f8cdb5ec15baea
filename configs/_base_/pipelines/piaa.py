# PIAA's protocol: the short side at 224 pixels, the centre cut out.
_base_ = './fit.py'
test_pipeline = [
    _base_.test_pipeline[0],
    dict(
        type='mmpretrain.ResizeEdge',
        scale=224,
        edge='short',
        backend='pillow',
        interpolation='bicubic',
    ),
    dict(type='mmpretrain.CenterCrop', crop_size=224),
    _base_.test_pipeline[-1],
]
