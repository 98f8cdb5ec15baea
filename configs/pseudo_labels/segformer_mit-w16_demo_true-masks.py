# The upper bound: the same segmentor, trained on the true masks.
_base_ = './segformer_mit-w16_demo.py'
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
