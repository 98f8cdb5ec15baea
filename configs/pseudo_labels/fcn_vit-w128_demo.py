# A ViT that starts from the demo CLIP's image tower, written by
# python tools/model_converters/clip2vit.py local-dir:demo/model \
#     --out work_dirs/vit-w128_demo.pth
_base_ = [
    '../_base_/models/fcn_vit-base-p16.py',
    '../_base_/datasets/demo_pseudo_masks.py',
    '../_base_/schedules/adamw_20k.py',
]
model = dict(
    data_preprocessor=dict(size=(128, 128)),
    backbone=dict(
        arch=dict(
            _delete_=True,
            embed_dims=128,
            num_layers=12,
            num_heads=4,
            feedforward_channels=512),
        img_size=96,
        frozen_stages=8,
        layer_cfgs=dict(act_cfg=dict(type='GELU')),
        init_cfg=dict(checkpoint='work_dirs/vit-w128_demo.pth')),
    decode_head=dict(in_channels=128, channels=128, num_classes=51))
optim_wrapper = dict(
    optimizer=dict(lr=1e-3),
    paramwise_cfg=dict(
        custom_keys=dict(backbone=dict(lr_mult=0.3), head=dict(lr_mult=1.))))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type='PolyLR', eta_min=0.0, power=1.0, begin=100, end=2000,
         by_epoch=False),
]
train_cfg = dict(max_iters=2000, val_interval=500)
default_hooks = dict(checkpoint=dict(interval=500))
