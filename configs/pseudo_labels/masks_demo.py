# Pseudo masks of 1,500 rendered scenes: see demo/README.md.
_base_ = ['../_base_/models/cls-seg_vit-demo.py', '../_base_/pseudo_masks.py']
model = dict(post_processor=dict(type='mmtagclip.DenseCRF'), with_probabilities=True)
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
