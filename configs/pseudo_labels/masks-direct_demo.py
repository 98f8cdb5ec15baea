# As masks_demo.py, by SCLIP's direct segmentation: tags are the classes of the mask.
_base_ = [
    '../_base_/methods/sclip.py',
    '../_base_/backbones/vit-demo.py',
    '../_base_/datasets/names_demo.py',
    '../_base_/pseudo_masks.py',
]
model = dict(
    encoder=_base_.backbone.encoder,
    head=dict(templates='templates_85', **_base_.parts.SegTextHead),
    windows=dict(_delete_=True, type='mmtagclip.WholeImage'),
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
