# PIAA's protocol: the short side at 224 pixels, the centre cut out;
# fitted to the 5,011 images of trainval, tested on the 4,952 of test.
test_pipeline = [
    dict(type='mmtagclip.LoadImage'),
    dict(
        type='mmpretrain.ResizeEdge',
        scale=224,
        edge='short',
        backend='pillow',
        interpolation='bicubic',
    ),
    dict(type='mmpretrain.CenterCrop', crop_size=224),
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
train_dataloader = dict(
    batch_size=1,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='mmtagclip.VOCMultiLabel',
        data_root='data/VOCdevkit/VOC2007',
        split='trainval',
        pipeline=test_pipeline,
    ),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='mmtagclip.VOCMultiLabel',
        data_root='data/VOCdevkit/VOC2007',
        split='test',
        pipeline=test_pipeline,
        test_mode=True,
    ),
)
# PIAA's labels: what occurs only as a difficult object does not occur.
test_evaluator = [
    dict(
        type='mmpretrain.VOCAveragePrecision',
        difficult_as_positive=False,
        prefix='difficult_negative',
    ),
    dict(
        type='mmtagclip.VOCRelativeThresholdMetric',
        k=0.5,
        difficult_as_positive=False,
        prefix='difficult_negative',
    ),
]
