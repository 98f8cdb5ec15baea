# NUS-WIDE's own test list; test.json is made by tools/dataset_converters/nus_wide.py.
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
        ),
    ),
]
test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='mmpretrain.MultiLabelDataset',
        data_root='data/nus_wide',
        ann_file='test.json',
        data_prefix='Flickr',
        pipeline=test_pipeline,
        test_mode=True,
    ),
)
test_evaluator = [
    dict(type='mmpretrain.AveragePrecision'),
    dict(type='mmtagclip.RelativeThresholdMetric', k=0.5),
]
