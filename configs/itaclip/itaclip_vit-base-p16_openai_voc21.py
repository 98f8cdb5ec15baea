# Made of published.yml by tools/dev/make_configs.py.
_base_ = [
    '../_base_/methods/itaclip.py',
    '../_base_/backbones/vit-base-p16_openai.py',
    '../_base_/datasets/masks/voc21.py',
    '../_base_/pipelines/masks_resized.py',
]
model = dict(
    encoder=_base_.backbone.encoder,
    head=dict(
        classes='seg_voc_itaclip',
        background='seg_voc_background_itaclip',
        background_threshold=0.1,
        logit_scale=60.0,
        area_threshold=0.1,
        description_weight=0.05,
    ),
    views=dict(weight=0.7),
)
test_dataloader = dict(dataset=dict(**_base_.dataset, pipeline=_base_.test_pipeline))
