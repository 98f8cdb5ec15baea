# Made of published.yml by tools/dev/make_configs.py.
_base_ = [
    '../_base_/methods/segearth-ov3.py',
    '../_base_/backbones/sam3.py',
    '../_base_/datasets/masks/coco-object.py',
    '../_base_/pipelines/concepts.py',
]
model = dict(
    background_rule=dict(type='mmtagclip.MaximumBackground', threshold=0.4),
    classes='seg_coco_plain',
    background=['background'],
)
test_dataloader = dict(dataset=dict(**_base_.dataset, pipeline=_base_.test_pipeline))
