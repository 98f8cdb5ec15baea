# tools/test.py of a tagger writes pseudo tags in the place of metrics: runtime,
# and how images are read. A leaf config names model and images.
_base_ = './pipelines/tags.py'
test_pipeline = [
    dict(type='mmtagclip.LoadImage', on_error='skip'),
    dict(type='mmtagclip.ResizeToPatchGrid', max_side=1024),
    dict(
        type='mmpretrain.PackInputs',
        meta_keys=('sample_idx', 'img_path', 'ori_shape', 'img_shape', 'load_error'),
    ),
]
test_evaluator = []
test_cfg = dict(type='mmtagclip.GenerateLoop')
default_hooks = dict(
    _delete_=True, timer=dict(type='IterTimerHook'), logger=dict(type='LoggerHook', interval=100)
)
