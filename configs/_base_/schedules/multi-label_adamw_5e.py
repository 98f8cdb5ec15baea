# 5 epochs of AdamW, for a classifier that starts from CLIP's weights.
_base_ = './multi-label_30e.py'
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=1e-3, weight_decay=0.01),
    paramwise_cfg=dict(norm_decay_mult=0.0, custom_keys=dict(backbone=dict(lr_mult=0.01))),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=5),
]
train_cfg = dict(max_epochs=5)
default_hooks = dict(checkpoint=dict(interval=1))
