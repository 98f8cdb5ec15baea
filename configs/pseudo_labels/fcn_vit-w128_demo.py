# A ViT that starts from the classifier that vit-w128_demo.py trains on pseudo
# tags. Crops of nothing but background, which fills most of a scene, are rare.
_base_ = [
    '../_base_/models/fcn_vit-base-p16.py',
    '../_base_/datasets/demo_pseudo_masks.py',
    '../_base_/schedules/adamw_20k.py',
]
model = dict(
    data_preprocessor=dict(size=(128, 128)),
    backbone=dict(
        arch=dict(
            _delete_=True, embed_dims=128, num_layers=12, num_heads=4, feedforward_channels=512
        ),
        img_size=96,
        frozen_stages=8,
        layer_cfgs=dict(act_cfg=dict(type='GELU')),
        init_cfg=dict(checkpoint='work_dirs/vit-w128_demo/epoch_5.pth', prefix='backbone.'),
    ),
    decode_head=dict(in_channels=128, channels=128, num_classes=51),
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(272, 272), ratio_range=(0.75, 1.33), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(128, 128), cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=train_pipeline)))
optim_wrapper = dict(
    optimizer=dict(lr=1e-2),
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.01), head=dict(lr_mult=1.0))),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='PolyLR', eta_min=0.0, power=1.0, begin=50, end=800, by_epoch=False),
]
train_cfg = dict(max_iters=800, val_interval=400)
default_hooks = dict(checkpoint=dict(interval=400))
