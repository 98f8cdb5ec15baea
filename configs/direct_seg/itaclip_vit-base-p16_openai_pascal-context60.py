_base_ = [
    '../_base_/models/itaclip_vit-base-p16_openai.py',
    '../_base_/datasets/pascal-context60_direct.py',
    '../_base_/direct_seg_runtime.py',
]
model = dict(
    head=dict(
        classes='seg_pascal_context_itaclip',
        background=['background'],
        logit_scale=55.0,
        background_threshold=0.1,
        description_weight=0.15,
    )
)
