_base_ = [
    '../_base_/methods/cls-seg.py',
    '../_base_/backbones/vit-demo.py',
    '../_base_/datasets/masks/demo.py',
    '../_base_/pipelines/masks.py',
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
)
test_dataloader = dict(dataset=dict(**_base_.dataset, pipeline=_base_.test_pipeline))
