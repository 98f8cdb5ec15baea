# Made of published.yml by tools/dev/make_configs.py.
_base_ = [
    '../_base_/methods/activesam.py',
    '../_base_/backbones/sam3.py',
    '../_base_/datasets/masks/pascal-context59.py',
    '../_base_/pipelines/concepts.py',
]
model = _base_.parts.ConceptSegmentor
test_dataloader = dict(dataset=dict(**_base_.dataset, pipeline=_base_.test_pipeline))
