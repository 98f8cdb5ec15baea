# The demo's model teaches itself on 300 rendered scenes; weights of DINO are not bundled.
_base_ = ['../_base_/pooling.py', '../_base_/backbones/vit-demo.py']
model = dict(
    encoder=dict(**_base_.backbone.encoder, positions='bilinear'),
    teacher=None,
    gamma=0.7,
)
train_pipeline = _base_.train_pipeline
train_pipeline[1:3] = [dict(type='RandomCrop', crop_size=(160, 160))]
train_dataloader = dict(
    num_workers=2,
    dataset=dict(
        type='mmtagclip.ImageFolder',
        data_prefix='data/demo_dev/JPEGImages',
        pipeline=train_pipeline,
    ),
)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [dict(type='MultiStepLR', milestones=[250], gamma=0.1, by_epoch=False)]
train_cfg = dict(max_iters=300, val_interval=301)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=100))
