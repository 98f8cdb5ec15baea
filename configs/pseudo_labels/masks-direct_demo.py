# As masks_demo.py, by SCLIP's direct segmentation: tags are the classes of the mask.
_base_ = ['../_base_/models/direct_vit-demo.py', '../_base_/pseudo_masks.py']
model = dict(
    encoder=dict(
        last_block=dict(_delete_=True, type='mmtagclip.SCLIPLastBlock'), positions='bicubic_scale'
    )
)
test_dataloader = dict(
    dataset=dict(
        type='mmtagclip.VocabularySegDataset',
        classes='data/demo_dev/classes.txt',
        data_root='data/demo_dev',
        data_prefix=dict(img_path='JPEGImages'),
        test_mode=True,
        pipeline=_base_.test_pipeline,
    )
)
