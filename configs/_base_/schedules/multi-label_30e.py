# Training and evaluating a multi-label classifier of MMPretrain, 30 epochs of SGD.
_base_ = '../train_runtime.py'
default_hooks = dict(
    checkpoint=dict(interval=5), visualization=dict(type='VisualizationHook', enable=False)
)
visualizer = dict(_delete_=True, type='UniversalVisualizer', vis_backends=_base_.vis_backends)
optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=0.0001, nesterov=True)
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=200),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=30),
]
train_cfg = dict(by_epoch=True, max_epochs=30, val_interval=5)
val_cfg = dict()
