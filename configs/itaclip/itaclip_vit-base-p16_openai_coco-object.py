# Made of published.yml by tools/dev/make_configs.py.
_base_ = [
    '../_base_/methods/itaclip.py',
    '../_base_/backbones/vit-base-p16_openai.py',
    '../_base_/datasets/masks/coco-object.py',
    '../_base_/pipelines/masks_resized.py',
]
model = dict(
    encoder=_base_.backbone.encoder,
    head=dict(
        classes='seg_coco_itaclip',
        background='seg_coco_background',
        background_threshold=0.1,
        logit_scale=50.0,
        description_weight=0.1,
    ),
)
test_dataloader = dict(dataset=dict(**_base_.dataset, pipeline=_base_.test_pipeline))
