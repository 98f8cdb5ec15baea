# Pseudo tags of 1,500 rendered scenes: see demo/README.md.
_base_ = ['../_base_/models/tagclip_vit-demo.py', '../_base_/pseudo_tags.py']
test_dataloader = dict(
    dataset=dict(
        type='mmpretrain.CustomDataset',
        data_root='data/demo_dev',
        data_prefix='JPEGImages',
        with_label=False,
        test_mode=True,
        pipeline=_base_.test_pipeline,
    )
)
