# Made of published.yml by tools/dev/make_configs.py.
_base_ = [
    '../_base_/methods/clip-dinoiser.py',
    '../_base_/backbones/vit-base-p16_laion2b.py',
    '../_base_/datasets/masks/voc21.py',
    '../_base_/pipelines/masks_resized.py',
]
model = dict(
    encoder=_base_.backbone.encoder,
    head=dict(
        classes='voc',
        background=['background'],
        background_threshold=0.0,
        replace=dict(diningtable='dining table', pottedplant='potted plant'),
        objectness_threshold=0.99,
    ),
)
test_pipeline = _base_.test_pipeline
test_pipeline[2].scale = (2048, 448)
tta_pipeline = _base_.tta_pipeline
tta_pipeline[2].scale = (2048, 448)
test_dataloader = dict(dataset=dict(**_base_.dataset, pipeline=test_pipeline))
