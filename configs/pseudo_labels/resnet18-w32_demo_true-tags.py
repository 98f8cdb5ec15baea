# The upper bound: the same classifier, trained on the true tags.
_base_ = './resnet18-w32_demo.py'
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='mmtagclip.VOCMultiLabel',
        data_root='data/demo_dev',
        split='test',
        classes='data/demo_dev/classes.txt',
        pipeline=_base_.train_pipeline,
    )
)
