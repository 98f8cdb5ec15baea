# A ViT that starts from the demo CLIP's image tower, written by
# python tools/model_converters/clip2vit.py local-dir:demo/model \
#     --out work_dirs/vit-w128_demo.pth
_base_ = [
    '../_base_/models/vit-base-p16_multi-label.py',
    '../_base_/datasets/demo_pseudo_tags.py',
    '../_base_/schedules/multi-label_adamw_5e.py',
]
model = dict(
    data_preprocessor=dict(num_classes=50),
    backbone=dict(
        arch=dict(
            _delete_=True, embed_dims=128, num_layers=12, num_heads=4, feedforward_channels=512
        ),
        img_size=96,
        frozen_stages=8,
        layer_cfgs=dict(act_cfg=dict(type='GELU')),
        init_cfg=dict(checkpoint='work_dirs/vit-w128_demo.pth'),
    ),
    head=dict(in_channels=128, num_classes=50),
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(224, 224)),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
train_dataloader = dict(batch_size=8, dataset=dict(dataset=dict(pipeline=train_pipeline)))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.3))))
train_cfg = dict(val_interval=1)
