# A thin SegFormer from random weights, for scenes of about 270 pixels.
_base_ = [
    '../_base_/models/segformer_mit-b0.py',
    '../_base_/datasets/demo_pseudo_masks.py',
    '../_base_/schedules/adamw_20k.py',
]
model = dict(
    data_preprocessor=dict(size=(128, 128)),
    backbone=dict(embed_dims=16, num_heads=[1, 2, 4, 8], drop_path_rate=0.0, init_cfg=None),
    decode_head=dict(in_channels=[16, 32, 64, 128], channels=128, num_classes=51),
)
optim_wrapper = dict(
    optimizer=dict(lr=1e-3), paramwise_cfg=dict(custom_keys=dict(head=dict(lr_mult=1.0)))
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type='PolyLR', eta_min=0.0, power=1.0, begin=100, end=3000, by_epoch=False),
]
train_cfg = dict(max_iters=3000, val_interval=1500)
default_hooks = dict(checkpoint=dict(interval=500))
