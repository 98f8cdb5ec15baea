# PIAA's protocol: the short side at 224 pixels, the centre cut out;
# fitted to the train images. PIAA tests on 60,260 images, of which 13,412 have
# no label; make piaa_test.json of its published list by
# tools/dataset_converters/text2tags.py, and train.json by nus_wide.py --split Train.
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
        ),
    ),
]
train_dataloader = dict(
    batch_size=1,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='mmpretrain.MultiLabelDataset',
        data_root='data/nus_wide',
        ann_file='train.json',
        data_prefix='Flickr',
        pipeline=test_pipeline,
    ),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='mmpretrain.MultiLabelDataset',
        data_root='data/nus_wide',
        ann_file='piaa_test.json',
        data_prefix='Flickr',
        pipeline=test_pipeline,
        test_mode=True,
    ),
)
test_evaluator = [
    dict(type='mmpretrain.AveragePrecision'),
    dict(type='mmtagclip.RelativeThresholdMetric', k=0.5),
]
