# The 1,449 images of the segmentation split, as in TagCLIP.
test_pipeline = [
    dict(type='mmtagclip.LoadImage'),
    dict(type='mmtagclip.ResizeToPatchGrid', patch_size=16),
    dict(
        type='mmpretrain.PackInputs',
        meta_keys=(
            'sample_idx',
            'img_path',
            'ori_shape',
            'img_shape',
            'scale_factor',
            'load_error',
            'gt_label_difficult',
        ),
    ),
]
test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='mmtagclip.VOCMultiLabel',
        data_root='data/VOCdevkit/VOC2012',
        split='',
        image_set_path='ImageSets/Segmentation/val.txt',
        pipeline=test_pipeline,
        test_mode=True,
    ),
)
# Both conventions for objects that VOC marks as difficult: TagCLIP's labels
# count them as positive; VOC's own evaluation leaves them out.
test_evaluator = [
    dict(
        type='mmpretrain.VOCAveragePrecision',
        difficult_as_positive=True,
        prefix='difficult_positive',
    ),
    dict(
        type='mmtagclip.VOCRelativeThresholdMetric',
        k=0.5,
        difficult_as_positive=True,
        prefix='difficult_positive',
    ),
    dict(type='mmpretrain.VOCAveragePrecision', prefix='difficult_ignored'),
    dict(type='mmtagclip.VOCRelativeThresholdMetric', k=0.5, prefix='difficult_ignored'),
]
