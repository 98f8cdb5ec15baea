# CLS-SEG's protocol: the whole image on the patch grid. Images whose longer side is over
# 1344 pixels are shrunk for the encoder; masks come out at the image's own size.
_base_ = '../seg_runtime.py'
_load = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='mmtagclip.KeepImage'),
]
_grid = dict(type='mmtagclip.ResizeToPatchGrid', max_side=1344)
_pack = dict(
    type='PackSegInputs',
    meta_keys=(
        'img_path',
        'seg_map_path',
        'ori_shape',
        'img_shape',
        'scale_factor',
        'flip',
        'flip_direction',
        'reduce_zero_label',
        'original',
        'regions',
        'load_error',
    ),
)
test_pipeline = [*_load, _grid, dict(type='LoadAnnotations'), _pack]
test_dataloader = dict(
    batch_size=1, num_workers=2, sampler=dict(type='DefaultSampler', shuffle=False)
)
test_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])

# tools/test.py --tta: the image and its mirror image, at three scales.
tta_pipeline = [
    *_load,
    dict(
        type='TestTimeAug',
        transforms=[
            [
                dict(type='Resize', scale_factor=scale, keep_ratio=True)
                for scale in (0.75, 1.0, 1.25)
            ],
            [
                dict(type='RandomFlip', prob=0.0, direction='horizontal'),
                dict(type='RandomFlip', prob=1.0, direction='horizontal'),
            ],
            [_grid],
            [dict(type='LoadAnnotations')],
            [_pack],
        ],
    ),
]
