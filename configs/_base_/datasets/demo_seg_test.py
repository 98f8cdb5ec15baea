# 120 rendered scenes in VOC's layout, with pixel masks.
_data = '{{fileDirname}}/../../../demo/data'
test_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='mmtagclip.KeepImage'),
    dict(type='mmtagclip.ResizeToPatchGrid', patch_size=16, max_side=1344),
    dict(type='LoadAnnotations'),
    dict(
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
        ),
    ),
]
test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmtagclip.VocabularySegDataset',
        classes=f'{_data}/classes.txt',
        data_root=_data,
        ann_file='ImageSets/Segmentation/test.txt',
        data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'),
        pipeline=test_pipeline,
        test_mode=True,
    ),
)
test_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
