# The upper bound: the same segmentor, trained on the true masks.
_base_ = './fcn_vit-w128_demo.py'
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='mmtagclip.VocabularySegDataset',
        classes='data/demo_dev/classes.txt',
        data_root='data/demo_dev',
        data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'),
        pipeline=_base_.train_pipeline,
    )
)
