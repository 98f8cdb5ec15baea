# TagCLIP's protocol: the whole image, enlarged to the next multiples of the patch size.
_base_ = '../default_runtime.py'
test_pipeline = [
    dict(type='mmtagclip.LoadImage'),
    dict(type='mmtagclip.ResizeToPatchGrid'),
    dict(
        type='mmpretrain.PackInputs',
        meta_keys=(
            'sample_idx',
            'img_path',
            'ori_shape',
            'img_shape',
            'scale_factor',
            'load_error',
            'gt_label_difficult',  # which VOC's samples have
        ),
    ),
]
test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'),
)
