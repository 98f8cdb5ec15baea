# Made of published.yml by tools/dev/make_configs.py.
_base_ = [
    '../_base_/methods/segearth-ov3.py',
    '../_base_/backbones/sam3.py',
    '../_base_/datasets/masks/ade20k.py',
    '../_base_/pipelines/concepts.py',
]
model = dict(classes='seg_ade20k', confidence=0.3)
test_dataloader = dict(dataset=dict(**_base_.dataset, pipeline=_base_.test_pipeline))
