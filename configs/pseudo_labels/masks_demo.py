# Pseudo masks of 1,500 rendered scenes: see demo/README.md.
_base_ = [
    '../_base_/methods/cls-seg.py',
    '../_base_/backbones/vit-demo.py',
    '../_base_/datasets/names_demo.py',
    '../_base_/pseudo_masks.py',
]
model = dict(
    tagger=dict(
        encoder=_base_.backbone.encoder,
        head=dict(dmar=_base_.backbone.DMAR, **_base_.parts.TagCLIPHead),
        **_base_.parts.TagCLIP,
    ),
    affinity=dict(**_base_.backbone.AffinityRefinement_voc, **_base_.parts.AffinityRefinement),
    templates=['a photo of a {}.'],
    **_base_.parts.CLSSeg,
    post_processor=dict(type='mmtagclip.DenseCRF'),
    with_probabilities=True,
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
