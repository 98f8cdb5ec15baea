# A thin DeepLabV3+ from random weights, for scenes of about 270 pixels.
_base_ = [
    '../_base_/models/deeplabv3plus_r50-d8.py',
    '../_base_/datasets/demo_pseudo_masks.py',
    '../_base_/schedules/sgd_20k.py',
]
model = dict(
    data_preprocessor=dict(size=(128, 128)),
    backbone=dict(
        depth=18,
        stem_channels=32,
        base_channels=32,
        dilations=(1, 1, 1, 2),
        strides=(1, 2, 2, 1),
        init_cfg=None,
    ),
    decode_head=dict(
        in_channels=256,
        channels=128,
        dilations=(1, 3, 6, 9),
        c1_in_channels=32,
        c1_channels=24,
        num_classes=51,
    ),
    auxiliary_head=None,
)
optim_wrapper = dict(optimizer=dict(lr=0.05))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type='PolyLR', eta_min=1e-4, power=0.9, begin=100, end=3000, by_epoch=False),
]
train_cfg = dict(max_iters=3000, val_interval=1500)
default_hooks = dict(checkpoint=dict(interval=500))
