# Every image below a folder, without labels. Larger images are shrunk to
# max_side; images that can't be read are named in the tag file and counted.
test_pipeline = [
    dict(type='mmtagclip.LoadImage', on_error='skip'),
    dict(type='mmtagclip.ResizeToPatchGrid', patch_size=16, max_side=1024),
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
        type='mmpretrain.CustomDataset',
        data_prefix='data/photos',
        with_label=False,
        extensions=(
            '.jpg',
            '.jpeg',
            '.png',
            '.webp',
            '.bmp',
            '.tif',
            '.tiff',
            '.gif',
            '.ppm',
            '.pgm',
        ),
        pipeline=test_pipeline,
        test_mode=True,
    ),
)
test_evaluator = []
