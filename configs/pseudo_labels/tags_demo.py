# Pseudo tags of 1,500 rendered scenes: see demo/README.md.
_base_ = [
    '../_base_/methods/tagclip.py',
    '../_base_/backbones/vit-demo.py',
    '../_base_/datasets/names_demo.py',
    '../_base_/pseudo_tags.py',
]
model = dict(
    encoder=_base_.backbone.encoder,
    head=dict(dmar=_base_.backbone.DMAR, **_base_.parts.TagCLIPHead),
    **_base_.parts.TagCLIP,
)
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
