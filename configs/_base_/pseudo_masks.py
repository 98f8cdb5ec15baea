# tools/test.py of a segmentor writes pseudo masks in the place of metrics:
# runtime, and how images are read. A leaf config names model and images.
_base_ = './pipelines/masks.py'
test_pipeline = [
    dict(type='mmtagclip.LoadImage', on_error='skip'),
    dict(type='mmtagclip.KeepImage'),
    dict(type='mmtagclip.ResizeToPatchGrid', max_side=1344),
    dict(
        type='mmseg.PackSegInputs',
        meta_keys=('sample_idx', 'img_path', 'ori_shape', 'img_shape', 'original', 'load_error'),
    ),
]
test_evaluator = []
test_cfg = dict(_delete_=True, type='mmtagclip.GenerateLoop')
default_hooks = dict(
    _delete_=True,
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=100, log_metric_by_epoch=False),
)
