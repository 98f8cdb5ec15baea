default_scope = 'mmpretrain'
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=10),
    class_check=dict(type='mmtagclip.ClassCheckHook'),
    patch_grid=dict(type='mmtagclip.PatchGridHook'),
    tags=dict(type='mmtagclip.TagWriterHook', out_file='tags.jsonl'),
    visualization=dict(type='mmtagclip.TagVisualizationHook'),
)
env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='mmtagclip.TagVisualizer', vis_backends=vis_backends, name='visualizer')
log_level = 'INFO'
load_from = None
resume = False
randomness = dict(seed=0, deterministic=False)
test_cfg = dict()
