_base_ = './default_runtime.py'
default_scope = 'mmseg'
default_hooks = dict(
    _delete_=True,
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=10, log_metric_by_epoch=False),
    patch_grid=dict(type='mmtagclip.PatchGridHook'),
    visualization=dict(type='SegVisualizationHook'),
)
visualizer = dict(type='mmtagclip.MaskVisualizer')
log_processor = dict(by_epoch=False)
test_cfg = dict(type='TestLoop')
tta_model = dict(type='mmtagclip.TrainingFreeTTA')  # tools/test.py --tta
